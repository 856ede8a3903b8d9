# SPDX-License-Identifier: Apache-2.0
"""Makes what tests/text/tokenizer_parity_test.cpp compares with: text, tokenizers of each family, and the ids, decoded
text and rendered conversations that `tokenizers` and `transformers` give for them.

    python tokenizer_parity.py OUT_DIR [MODEL_DIR]

Everything is drawn from fixed seeds. MODEL_DIR: a real model folder to compare with as well.
Layout (integers are little-endian uint32):
    lines.bin               count, then per line: size, bytes
    FAMILY/tokenizer.json   FAMILY/ids.bin: count, then per line of lines.bin: number of ids, ids
    FAMILY/decode.bin       count, then: number of ids, ids, size, UTF-8
    families.json           [{"name", "dir", "lossless"}]
    chats.json              [{"dir", "messages", "add_generation_prompt", "text" (null: must be refused), "ids"}]
"""

import json
import os
import random
import struct
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

NUM_LINES = 21000
# Every seventh line is encoded with add_special_tokens.
SPECIAL_EVERY = 7

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
# A pattern that no scanner is written for, in the manner of newer models.
MARKS = r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}{1,2}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|eot_id|>", "<think>", "</think>", "<pad>"]

SCRIPTS = [
    ("abcdefghijklmnopqrstuvwxyz", 30), ("ABCDEFGHIJKLMNOPQRSTUVWXYZ", 4), ("àâäçéèêëîïôöùûüÿñßœæåøſ", 4),
    ("αβγδεζηθικλμνξοπρστυφχψωάέή", 4), ("абвгдежзийклмнопрстуфхцчшщъыьэюяё", 6), ("אבגדהוזחטיכלמנסעפצקרשת", 3),
    ("ابتثجحخدذرزسشصضطظعغفقكلمنهوي", 4), ("अआइईकखगघचछजझटठडढतथदधनपफबभमयरलवशषसह", 3), ("กขคงจฉชซญดตถทธนบปผพฟมยรลวสหอฮ", 3),
    ("가각간갈감나다라마바사아자차카타파하한글국어", 4), ("ぁあいうえおかきくけこさしすせそたちつてと", 3), ("アイウエオカキクケコサシスセソ", 3),
    ("的一是不了人我在有他这中大来上国和说们为子", 6), ("აბგდევზთიკლმნოპ", 2), ("աբգդեզէըթժիլ", 2), ("அஆஇஈஉகஙசஞடணதநபம", 2),
    ("ᄀᄁᄂᄃ따ᅢᅣᅤᆨᆩᆪ", 1), ("𐍈𐌰𐌱𝒜𝒷𝔸𠀀𠀁𪚥", 2),
]
MARK_CHARS = "\u0300\u0301\u0302\u0308\u030a\u0327\u0328\u0323\u05b0\u05b1\u064b\u064e\u0651\u093f\u094d\u0e31\u0e48\u20dd\ufe0f\u200d"
DIGITS = "0123456789" * 4 + "٠١٢٣٤٥०१२३四½¼²³ⅣⅫ①㊿𝟙𝟚"
PUNCTUATION = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") + list("…–—“”’‘«»¿¡、。・！？（）€£¥©®™°±×÷√∞≠§¶†‡•")
SPACES = [" ", " ", "  ", "   ", "    ", "\t", "\t\t", "\n", "\n\n", "\r\n", "\r", " \n", "\n ", " \n \n ", "\u00a0", "\u3000",
          "\u2028", "\u2003", "\u0085", "\x0b", "\x0c", "\x1c", "\u200b", "\ufeff", "\u1680", "\u202f"]
EMOJI = ["😀", "🎉", "👩‍👩‍👧‍👦", "👨🏽‍🚀", "🏳️‍🌈", "🇩🇪🇫🇷", "❤️", "☺", "👍🏿", "1️⃣", "🧑‍💻", "🫠"]
CONTRACTIONS = ["'s", "'S", "'t", "'T", "'re", "'RE", "'Re", "'ve", "'m", "'M", "'ll", "'lL", "'LL", "'d", "'D", "'ſ", "'x", "'", "''s",
                "’s", "'l", "'r", "'v", "'\u212a"]
CODE = ["def f(x):\n    return x**2  # power\n", "for (int i = 0; i < n; ++i) {\n\t\tsum += a[i];\n\t}\n", "if (a && !b || c->d) { }",
        "SELECT * FROM t WHERE id = 42;", "<div class=\"x\">&nbsp;</div>", "x = {'a': [1, 2.5e-10], \"b\": None}", "https://example.org/a?b=c&d=%20",
        "std::vector<std::pair<int, float>> v{};", "$ ls -la | grep foo > /dev/null 2>&1", "\\frac{a_{1}}{b^{2}}"]
BROKEN = [b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\x80", b"\xbf\xbf", b"\xe0\x80\x80",
          b"\xf8\x88\x80\x80\x80", b"\xe2\x28\xa1", b"\xf0\x28\x8c\xbc", b"\xfe\xfe"]
# Letters and digits of Unicode 15.1 to 17: known to `tokenizers`, not to every system library.
NEW_CHARACTERS = "\U0002ebf0\U0002ee5d\U00010d40\U00010d4a\U000116d0\U00011380\U000113d1\U00013460\U00016d40\U0001ccf0\U00011de0\U00016ff4\ua7cb\u1c89"


def draw_word(rng):
    alphabet = rng.choices([s for s, _ in SCRIPTS], [w for _, w in SCRIPTS])[0]
    # Some words come often, so that training finds something to merge.
    source = random.Random(rng.randrange(300)) if rng.random() < 0.7 else rng
    word = "".join(source.choice(alphabet) for _ in range(source.randint(1, 9)))
    if rng.random() < 0.15:
        word = word.capitalize()
    if rng.random() < 0.08:
        at = rng.randrange(len(word) + 1)
        word = word[:at] + "".join(rng.choice(MARK_CHARS) for _ in range(rng.randint(1, 3))) + word[at:]
    return word


def draw_piece(rng):
    """One piece of a line, as bytes."""
    kind = rng.random()
    if kind < 0.42:
        text = rng.choice(["", " "]) + draw_word(rng)
    elif kind < 0.52:
        text = "".join(rng.choice(DIGITS) for _ in range(rng.randint(1, 8)))
    elif kind < 0.62:
        text = "".join(rng.choice(PUNCTUATION) for _ in range(rng.randint(1, 4)))
    elif kind < 0.77:
        text = rng.choice(SPACES)
    elif kind < 0.81:
        text = rng.choice(EMOJI) * rng.randint(1, 2)
    elif kind < 0.86:
        text = draw_word(rng) + rng.choice(CONTRACTIONS) + rng.choice(["", "x", " ", "\u0301"])
    elif kind < 0.89:
        text = rng.choice(CODE)
    elif kind < 0.93:
        text = rng.choice(["", " ", "  "]) + rng.choice(SPECIALS) + rng.choice(["", " ", "\n", "x"])
    elif kind < 0.95:
        text = rng.choice([" ", "\t", "\n", "a", "=", "-", "\u00a0", "0", "é", "."]) * rng.randint(10, 120)
    elif kind < 0.97:
        return rng.choice(BROKEN)
    elif kind < 0.98:
        return bytes(rng.randrange(256) for _ in range(rng.randint(1, 12)))
    else:
        text = "".join(chr(draw_code_point(rng)) for _ in range(rng.randint(1, 6)))
    return text.encode("utf-8")


def draw_code_point(rng):
    import unicodedata

    while True:
        c = rng.randrange(rng.choice([0x250, 0x3000, 0x10000, 0x20000]))
        # Assigned since Unicode 14 at the latest: what the regular-expression libraries agree on.
        if not 0xD800 <= c < 0xE000 and unicodedata.category(chr(c)) != "Cn":
            return c


def draw_lines():
    rng = random.Random(20260101)
    lines = [b"", b" ", b"\n", b"  a", b"a  ", b"\xc3", b"'s", b"' s", b"\r\n\r\n", b" \xe3\x80\x80x", b"a" * 5000, b" " * 5000,
             b"\n" * 3000, "é".encode() * 2000, b"ab" * 2000 + b" " * 999 + b"x", "👩‍👩‍👧‍👦".encode() * 300, b"1" * 1500, b"<|im_start|>" * 200]
    while len(lines) < NUM_LINES:
        lines.append(b"".join(draw_piece(rng) for _ in range(rng.randint(1, 14))))
    return lines


def new_unicode_lines():
    rng = random.Random(7)
    pool = NEW_CHARACTERS + "a1 .'\n"
    return ["".join(rng.choice(pool) for _ in range(rng.randint(1, 20))).encode("utf-8") for _ in range(500)]


def added(content, special=False, **flags):
    return AddedToken(content, special=special, **{"normalized": not special, **flags})


def sequence(*stages):
    return pre_tokenizers.Sequence(list(stages))


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def byte_level(**flags):
    return pre_tokenizers.ByteLevel(**{"add_prefix_space": False, "use_regex": True, **flags})


def bos_post_processor(tokenizer, bos, eos=None):
    single = [bos, "$A"] + ([eos] if eos else [])
    names = [t for t in (bos, eos) if t]
    return processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
        single=" ".join(single), pair=" ".join(single) + " $B:1",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in names])])


def families():
    """name -> how its tokenizer differs from plain byte-level BPE."""
    raw = byte_level(use_regex=False)
    return {
        "gpt2": dict(pre=byte_level(), specials=["<|endoftext|>"], merges_as_text=True),
        "prefix_space": dict(pre=byte_level(add_prefix_space=True), specials=["<|endoftext|>"], lossless=False,
                             tokens=[added("<pad>", lstrip=True), added("<think>", rstrip=True), added("</think>", single_word=True),
                                     added("abc", single_word=True), added("def"), added("defg"), added("  x")]),
        "llama3": dict(pre=sequence(split(LLAMA3), raw), specials=["<|begin_of_text|>", "<|eot_id|>"], ignore_merges=True,
                       post=("<|begin_of_text|>", None)),
        "llama3_inverted": dict(pre=sequence(split(LLAMA3, "removed", invert=True), raw), specials=["<|begin_of_text|>"],
                                post=("<|begin_of_text|>", "<|eot_id|>")),
        "qwen2": dict(pre=sequence(split(QWEN2), raw), normalizer=normalizers.NFC(), specials=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
                      tokens=[added("<think>", normalized=False), added("</think>", normalized=False), added("e\u0301te\u0301")], lossless=False),
        "smollm2": dict(pre=sequence(pre_tokenizers.Digits(individual_digits=True), byte_level()),
                        specials=["<|endoftext|>", "<|im_start|>", "<|im_end|>"]),
        "digit_runs": dict(pre=sequence(pre_tokenizers.Digits(individual_digits=False), byte_level()), specials=["<|endoftext|>"],
                           normalizer=normalizers.Sequence([normalizers.NFKC()]), lossless=False),
        "oniguruma": dict(pre=sequence(split(MARKS), raw), specials=["<|im_end|>"], old_unicode=True),
        "merged_previous": dict(pre=sequence(split(r"\s+|[a-c]", "merged_with_previous"), pre_tokenizers.Split("e", "merged_with_next"), byte_level()),
                                specials=["<|im_end|>"], old_unicode=True),
        "contiguous": dict(pre=sequence(split(r"\p{N}|x*", "contiguous"), pre_tokenizers.Split("  ", "removed"), raw), specials=[],
                           old_unicode=True, lossless=False),
        "gaps_unk": dict(pre=byte_level(), specials=["<pad>"], unk="<pad>", fuse_unk=True, alphabet=False, lossless=False),
        "gaps": dict(pre=byte_level(), specials=["<pad>"], alphabet=False, lossless=False),
    }


def train(name, spec, corpus, folder):
    tokenizer = Tokenizer(models.BPE(unk_token=spec.get("unk"), fuse_unk=spec.get("fuse_unk", False)))
    tokenizer.pre_tokenizer = spec["pre"]
    if "normalizer" in spec:
        tokenizer.normalizer = spec["normalizer"]
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet() if spec.get("alphabet", True) else []
    # Without the full alphabet some bytes have no token.
    trainer = trainers.BpeTrainer(vocab_size=1800, show_progress=False, initial_alphabet=alphabet, limit_alphabet=256 if alphabet else 90,
                                  special_tokens=[AddedToken(t, special=True, normalized=False) for t in spec["specials"]])
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_tokens(spec.get("tokens", []))
    if "post" in spec:
        bos, eos = spec["post"]
        tokenizer.add_special_tokens([t for t in (bos, eos) if t])
        tokenizer.post_processor = bos_post_processor(tokenizer, bos, eos)
    os.makedirs(folder, exist_ok=True)
    data = json.loads(tokenizer.to_str())
    data["model"]["ignore_merges"] = spec.get("ignore_merges", False)
    if spec.get("merges_as_text"):
        data["model"]["merges"] = [" ".join(m) for m in data["model"]["merges"]]
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as out:
        json.dump(data, out, ensure_ascii=False)


def write_expected(folder, tokenizer, texts):
    def numbers(values):
        return struct.pack(f"<{len(values) + 1}I", len(values), *values)

    with_special = iter(tokenizer.encode_batch(texts[::SPECIAL_EVERY], add_special_tokens=True))
    plain = iter(tokenizer.encode_batch([t for i, t in enumerate(texts) if i % SPECIAL_EVERY], add_special_tokens=False))
    with open(os.path.join(folder, "ids.bin"), "wb") as out:
        out.write(struct.pack("<I", len(texts)))
        for i in range(len(texts)):
            out.write(numbers(next(plain if i % SPECIAL_EVERY else with_special).ids))
    rng = random.Random(11)
    # The decoder of `tokenizers` reads accented letters of added tokens as bytes, which we do not: left out.
    accented = {i for i, token in tokenizer.get_added_tokens_decoder().items() if not token.content.isascii()}
    size = tokenizer.get_vocab_size()
    with open(os.path.join(folder, "decode.bin"), "wb") as out:
        out.write(struct.pack("<I", 1000))
        for _ in range(1000):
            ids = [rng.randrange(min(size, rng.choice([300, size]))) for _ in range(rng.randint(0, 30))]
            ids = [i for i in ids if tokenizer.id_to_token(i) is not None and i not in accented]
            text = tokenizer.decode(ids, skip_special_tokens=False).encode("utf-8")
            out.write(numbers(ids) + struct.pack("<I", len(text)) + text)


# The families' templates in short: the branches for tools are cut to what tells the families apart.
CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
CHATML_DEFAULT = ("{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
                  "{{ '<|im_start|>system\nSYSTEM<|im_end|>\n' }}{% endif %}" + CHATML[len("{% for message in messages %}"):])
QWEN25 = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {{- "# Tools <|im_end|>\\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
QWEN3 = """{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""
LLAMA3_CHAT = ("{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + "
               "'<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
               "{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}")
LLAMA31_CHAT = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is defined and tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
MISTRAL_V1 = ("{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
              "{{ raise_exception('roles must alternate') }}{% endif %}{% if message['role'] == 'user' %}"
              "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
              "{{ message['content'] + eos_token}}{% else %}{{ raise_exception('Only user and assistant') }}{% endif %}{% endfor %}")
MISTRAL_SYSTEM = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message["role"] == "user") != (loop.index0 % 2 == 0) %}
        {{- raise_exception("After the optional system message, roles must alternate") }}
    {%- endif %}
    {%- if message["role"] == "user" %}
        {%- if loop.WHERE and system_message is defined %}
            {{- "OPEN" + system_message + "\\n\\n" + message["content"] + "CLOSE" }}
        {%- else %}
            {{- "OPEN" + message["content"] + "CLOSE" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- ANSWER + eos_token}}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported") }}
    {%- endif %}
{%- endfor %}
"""


def mistral(where, opening, closing, answer):
    return MISTRAL_SYSTEM.replace("WHERE", where).replace("OPEN", opening).replace("CLOSE", closing).replace("ANSWER", answer)


TEMPLATES = {
    "chatml": CHATML,
    "smollm2": CHATML_DEFAULT.replace("SYSTEM", "You are a helpful AI assistant named SmolLM, trained by Hugging Face"),
    "qwen2": CHATML_DEFAULT.replace("SYSTEM", "You are a helpful assistant."),
    "qwen2.5": QWEN25,
    "qwen3": QWEN3,
    "llama3": LLAMA3_CHAT,
    "llama3.1": LLAMA31_CHAT,
    "mistral-v1": MISTRAL_V1,
    "mistral-v2": mistral("first", " [INST] ", " [/INST]", '" " + message["content"]'),
    "mistral-v3": mistral("last", "[INST] ", "[/INST]", '" " + message["content"]|trim'),
    "mistral-tekken": mistral("last", "[INST]", "[/INST]", 'message["content"]'),
}
# Near relatives of the above that render something else: taking them for a known one would be silent damage.
UNKNOWN_TEMPLATES = {
    "chatml_bos": "{{ bos_token }}" + CHATML,
    "chatml_trim": CHATML.replace("message['content']", "message['content'] | trim"),
    "vision": "{% if images is defined %}{{ '<|vision_start|>' }}{% endif %}" + CHATML,
    "always_thinks": CHATML.replace("assistant\n'", "assistant\n<think>\n'"),
    "qwen1.5": CHATML.replace("+ '<|im_end|>' + '\n'}}", "}}{% if (loop.last and add_generation_prompt) or not loop.last %}{{ '<|im_end|>' + '\n' }}{% endif %}"),
    "keeps_thoughts": QWEN3.replace("if loop.index0 > ns.last_query_index", "if true"),
    "llama_optional_system": LLAMA31_CHAT.replace('{{- "<|start_header_id|>system', '{%- if system_message %}\n{{- "<|start_header_id|>system').replace(
        '{{- "<|eot_id|>" }}', '{{- "<|eot_id|>" }}{%- endif %}'),
    "llama2": "{{ bos_token }}{% for message in messages %}{{ '[INST] <<SYS>>' + message['content'] + ' [/INST]' + eos_token }}{% endfor %}",
    "other": "{% for message in messages %}{{ message['role'] + ': ' + message['content'] }}{% endfor %}",
}

CONVERSATIONS = [
    [("user", "Hi")],
    [("system", "Be brief."), ("user", "What is 2+2?")],
    [("user", "a"), ("assistant", "b"), ("user", "c")],
    [("system", " \n padded \u00a0"), ("user", " x \x1f"), ("assistant", "\n\ny\n "), ("user", "\tz"), ("assistant", "last answer ")],
    [("user", "q"), ("assistant", "<think>\nlong thought\n</think>\n\nshort answer"), ("user", "and?")],
    [("user", "q"), ("assistant", "<think>\nlong thought\n\n</think>\n\n\nshort answer\n")],
    [("user", "q"), ("assistant", "no thought")],
    [("user", "q"), ("assistant", "x</think>y</think>\nz"), ("user", "<tool_response>1</tool_response>"), ("assistant", "\nfin")],
    [("assistant", "first"), ("user", "second")],
    [("system", "s"), ("assistant", "a")],
    [("user", "u"), ("system", "late system"), ("user", "v")],
    [("user", "u"), ("user", "v")],
    [("system", ""), ("user", "")],
    [("user", "日本語 ❤️ <|im_end|> <|eot_id|>"), ("assistant", "[INST] {{ x }} {% y %}")],
]


def write_chats(out_dir, model_dir):
    from transformers import PreTrainedTokenizerFast

    cases = []
    for name, template in {**TEMPLATES, **UNKNOWN_TEMPLATES}.items():
        folder = os.path.join(out_dir, "chat", name)
        os.makedirs(folder, exist_ok=True)
        bos, eos = ("<|begin_of_text|>", "<|eot_id|>")
        source = os.path.join(out_dir, "llama3_inverted", "tokenizer.json")
        with open(source, encoding="utf-8") as read, open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as write:
            write.write(read.read())
        config = {"bos_token": bos, "eos_token": {"content": eos, "special": True}, "chat_template": template}
        if name == "llama3":  # the other places where a template may stand
            config["chat_template"] = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": template}]
        if name == "qwen3":
            config["chat_template"] = "{{ overridden }}"
            with open(os.path.join(folder, "chat_template.jinja"), "w", encoding="utf-8") as write:
                write.write(template)
        with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as write:
            json.dump(config, write)
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=source, bos_token=bos, eos_token=eos)
        add_cases(cases, folder, tokenizer, template, known=name in TEMPLATES)
    if model_dir:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(model_dir)
        add_cases(cases, model_dir, tokenizer, None, known=True)
    with open(os.path.join(out_dir, "chats.json"), "w", encoding="utf-8") as out:
        json.dump(cases, out)


def add_cases(cases, folder, tokenizer, template, known):
    for conversation in CONVERSATIONS:
        messages = [{"role": role, "content": content} for role, content in conversation]
        for prompt in (True, False):
            text = None
            if known:
                try:
                    text = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=prompt)
                except Exception as error:  # jinja2's TemplateError: the template refuses the conversation
                    if "TemplateError" not in type(error).__name__:
                        raise
            ids = tokenizer(text, add_special_tokens=False)["input_ids"] if text is not None else None
            cases.append({"dir": folder, "messages": messages, "add_generation_prompt": prompt, "text": text, "ids": ids})


def main():
    out_dir = sys.argv[1]
    model_dir = sys.argv[2] if len(sys.argv) > 2 else None
    os.makedirs(out_dir, exist_ok=True)
    common = draw_lines()
    lines = common + new_unicode_lines()
    with open(os.path.join(out_dir, "lines.bin"), "wb") as out:
        out.write(struct.pack("<I", len(lines)))
        for line in lines:
            out.write(struct.pack("<I", len(line)) + line)
    texts = [line.decode("utf-8", errors="replace") for line in lines]
    corpus = texts[18:1800]
    listing = []
    for name, spec in families().items():
        folder = os.path.join(out_dir, name)
        train(name, spec, corpus, folder)
        tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        write_expected(folder, tokenizer, texts[: len(common)] if spec.get("old_unicode") else texts)
        listing.append({"name": name, "dir": folder, "expected": folder, "lossless": spec.get("lossless", True)})
    if model_dir:
        folder = os.path.join(out_dir, "model")
        os.makedirs(folder, exist_ok=True)
        tokenizer = Tokenizer.from_file(os.path.join(model_dir, "tokenizer.json"))
        write_expected(folder, tokenizer, texts)
        # SmolLM2 has no token for 21 of the bytes and loses them in text.
        lossless = set(pre_tokenizers.ByteLevel.alphabet()) <= set(tokenizer.get_vocab())
        listing.append({"name": "model", "dir": model_dir, "expected": folder, "lossless": lossless})
    with open(os.path.join(out_dir, "families.json"), "w", encoding="utf-8") as out:
        json.dump(listing, out)
    write_chats(out_dir, model_dir)


if __name__ == "__main__":
    main()
