# SPDX-License-Identifier: Apache-2.0
"""A worker for tests: every item says what it does with it. Arguments: how to greet."""
import json
import os
import sys
import time

greeting = sys.argv[1] if len(sys.argv) > 1 else "good"


def say(value):
    print(json.dumps(value), flush=True)


def result(item):
    do = item.get("do", "echo")
    if do == "sleep":
        time.sleep(item["seconds"])
    elif do == "exit":
        os._exit(7)
    elif do == "error":
        return {"error": "cannot"}
    return {"echo": item.get("text", ""), "pid": os.getpid(), "value": item.get("value", 0)}


for line in sys.stdin:
    request = json.loads(line)
    if "plural_worker" in request:
        if greeting == "silent":
            time.sleep(1000)
        if greeting == "die":
            sys.exit(4)
        say({"plural_worker": 2 if greeting == "old" else 1, "name": "test"})
        continue
    results = [result(item) for item in request["items"]]
    wishes = {item.get("do") for item in request["items"]}
    if "garbage" in wishes:
        print("no JSON", flush=True)
    elif "wrong id" in wishes:
        say({"id": 0, "results": results})
    elif "too few" in wishes:
        say({"id": request["id"], "results": []})
    elif "leave" in wishes:
        say({"id": request["id"], "results": results})
        sys.exit(0)
    else:
        say({"id": request["id"], "results": results})
