"""Section 12 of PROTOCOL.md lists exactly the options of the plugins that ship. With --print: the rows as they should be."""
import json
import os
import subprocess
import sys

from weftd import BUILD, SRC, Weftd


def rows(reply):
    by_name = {p["name"]: p for p in reply["plugins"]}
    options = {}
    for plugin in ["sample", "score"] + reply["chain"]:
        for q in by_name[plugin]["params"]:
            if q["name"] in options:
                assert options[q["name"]][0] == q, (plugin, q)      # a shared option is the same everywhere
                options[q["name"]][1].append(plugin)
            else:
                options[q["name"]] = (q, [plugin])
    for name, (q, plugins) in options.items():
        span = f"{q['min']:.6g} to {q['max']:.8g}" if "min" in q else ""
        most = q.get("max_items", "")
        yield f"| `{name}` | {q['type']} | {json.dumps(q['default'])} | {span} | {most} | {', '.join(plugins)} | {q['doc']} |"


def main():
    with Weftd("--threads", "1") as d:
        text = subprocess.run([os.path.join(BUILD, "client", "weft"), "--request", d.request, "--timeout", "60", "--json", "plugins"],
                              check=True, capture_output=True, text=True, timeout=120).stdout
    want = list(rows(json.loads(text)))
    if sys.argv[1:] == ["--print"]:
        print("\n".join(want))
        return
    with open(os.path.join(SRC, "client", "PROTOCOL.md"), encoding="utf-8") as f:
        section = f.read().split("\n## 12.")[1].split("\n## 13.")[0]
    have = [line for line in section.split("\n") if line.startswith("| `") and line.count("|") > 4]
    for line in want:
        if line not in have:
            print("missing:", line)
    for line in have:
        if line not in want:
            print("not so:", line)
    if want != have:
        sys.exit("section 12 of PROTOCOL.md is not what the plugins say (this test with --print gives the rows)")


main()
