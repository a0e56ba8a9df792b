"""One implementation in a process of its own: a line of JSON with what to do, a line with the answer.

    python child.py MODULE FOLDER        {"do": "read", "order": "in order"} -> [passes, CPU s, peak MiB]

A module has ORDERS and read(folder, order); most have write(folder, samples, image_bytes), save(folder, at, image_bytes) and
resume(folder, at) too. It is imported before anything is timed. CPU time is that of all threads and of children that have ended.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path

LEAST_S = 0.25  # passes are repeated until they took so long


def cpu_s() -> float:
    """CPU time of this process and of its children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def peak_mib() -> float:
    """Peak resident memory of this process (ru_maxrss would count the parent that it was started from)."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    module, folder = importlib.import_module(sys.argv[1]), Path(sys.argv[2])
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        match request.pop("do"):
            case "write":
                answer = module.write(folder, **request)
            case "check":
                sums = [small.checksum() for small in module.read(folder, **request)]
                answer = [len(sums), sum(sums)]
            case "read":
                passes, started = 0, cpu_s()
                while (spent_s := cpu_s() - started) < LEAST_S:
                    for _ in module.read(folder, **request):
                        pass
                    passes += 1
                answer = [passes, spent_s, peak_mib()]
            case "save":
                answer = module.save(folder, **request)
            case "resume":
                wall, cpu = time.perf_counter(), cpu_s()
                small = module.resume(folder, **request)
                answer = [time.perf_counter() - wall, cpu_s() - cpu, small.checksum()]
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
