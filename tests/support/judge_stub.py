# SPDX-License-Identifier: Apache-2.0
"""An endpoint like OpenAI's on the loopback, for tests. Prints its port. What it does stands in the message it is sent:

  [fail 429 2]   the first 2 requests with this message get status 429
  [after 1]      with a Retry-After header of 1 s
  [sleep 5]      the reply comes after 5 s
  [body xyz]     the whole body is xyz
  [say xyz]      the reply's text; "Yes." when absent

GET /stats: {"requests", "most_at_once", "times", "keys", "last"}.
"""
import collections
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

lock = threading.Lock()
seen = collections.Counter()
stats = {"requests": 0, "most_at_once": 0, "times": [], "keys": [], "last": None}
running = 0


def wish(name, message):
    found = re.search(r"\[" + name + r" ([^\]]*)\]", message)
    return found[1] if found else None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def reply(self, status, body, headers=()):
        data = body.encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        with lock:
            self.reply(200, json.dumps(stats))

    def do_POST(self):
        global running
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        message = request["messages"][-1]["content"]
        with lock:
            running += 1
            seen[message] += 1
            number = seen[message]
            stats["requests"] += 1
            stats["most_at_once"] = max(stats["most_at_once"], running)
            stats["times"].append(time.monotonic())
            stats["keys"].append(self.headers.get("Authorization"))
            stats["last"] = request
        try:
            time.sleep(float(wish("sleep", message) or 0))
            status, times = (wish("fail", message) or "200 0").split()
            if number <= int(times):
                after = wish("after", message)
                self.reply(int(status), "busy", [("Retry-After", after)] if after else [])
            elif (body := wish("body", message)) is not None:
                self.reply(200, body)
            else:
                text = wish("say", message) or "Yes."
                self.reply(200, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}))
        except BrokenPipeError:
            pass
        finally:
            with lock:
                running -= 1


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
