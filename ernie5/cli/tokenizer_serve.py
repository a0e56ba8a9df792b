"""`ernie5 tokenizer serve RUN_OR_FOLDER`: tokenizers as a service, so that other machines encode for a training run."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ernie5.cli.parsing import Subparsers, add_command

if TYPE_CHECKING:
    from ernie5.tokenizers.remote.server import Server

KINDS = ("text", "vision", "audio")
LINE_EVERY_S = 60.0
SERVE = """Serves the tokenizers of a run (or of a folder with text/, vision/, audio/, or of one tokenizer's folder with --kind) until
Ctrl-C or SIGTERM. A recipe uses them with tokenizers.services; start several replicas to share the work.

  ernie5 tokenizer serve runs/tiny_cpu --kind vision audio
  ernie5 train tiny_cpu tokenizers.services.vision=tcp://127.0.0.1:7575 tokenizers.services.audio=tcp://127.0.0.1:7575

Any --host but this machine's own 127.0.0.1 needs a token that trainers have too: ERNIE5_SERVICE_TOKEN, or ERNIE5_SERVICE_TOKEN_FILE with
the path of a file. Traffic is not encrypted: between machines use a private network or a tunnel (ssh -L)."""


def add(actions: Subparsers) -> None:
    """Declare the command."""
    form = "RUN_OR_FOLDER [--kind KIND …] [--host HOST] [--port N]"
    parser = add_command(actions, "serve", form, "serve tokenizers to training runs", SERVE, run)
    parser.add_argument("place", metavar="RUN_OR_FOLDER", help="a run folder, or a folder of tokenizers")
    parser.add_argument("--kind", nargs="+", choices=KINDS, metavar="KIND", help="text, vision, audio (default: all that are there)")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at (default 127.0.0.1: this machine only)")
    parser.add_argument("--port", type=int, default=7575, help="its port (default 7575; 0: any that is free)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="media that are worked on at once (default: all cores)")
    parser.add_argument("--clients", type=int, default=256, help="connections that are taken (default 256)")
    parser.add_argument("--max-mib", type=int, default=256, help="the largest medium, decoded, in MiB (default 256)")


def run(args: argparse.Namespace) -> int:
    """0 after a signal asked it to stop."""
    import torch

    from ernie5.run.log import logging_to
    from ernie5.tokenizers.remote.address import Address
    from ernie5.tokenizers.remote.auth import read_token
    from ernie5.tokenizers.remote.server import Server, ServerConfig
    from ernie5.train.served import open_tokenizers

    if not 0 <= args.port < 2**16:
        raise ValueError(f"--port {args.port} must lie in 0..65535; leave it away for 7575")
    config = ServerConfig(args.threads, args.clients, payload_bytes=args.max_mib * 2**20)
    token = read_token()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)  # as training does by default
    with logging_to(rank=0):
        server = Server(open_tokenizers(Path(args.place), args.kind), Address(args.host, args.port), token, config)
        try:
            print(first_screen(server, args.place), flush=True)
            wait_for_signal(server)
        finally:
            server.close()
    return 0


def first_screen(server: Server, place: str) -> str:
    """What is served, where, to whom."""
    needs = "clients need the token" if server.token else "no token needed: this machine only"
    shown = server.address._replace(host=socket.gethostname()) if server.address.host in ("0.0.0.0", "::") else server.address
    kinds = ", ".join(f'{kind}: "{shown}"' for kind in server.served)
    lines = [
        ("serving", place),
        *((f"  {kind}", told.shown()) for kind, told in server.served.items()),
        ("address", f"{server.address}  ({needs}; not encrypted)"),
        ("work", f"{server.config.threads} media at once, at most {server.config.clients} connections and "
                 f"{server.config.payload_bytes / 2**20:g} MiB a medium"),
        ("recipe", f"tokenizers: {{services: {{{kinds}}}}}"),
        ("stop", "Ctrl-C or SIGTERM"),
    ]
    return "\n".join(f"{name:11}{told}" for name, told in lines)


def wait_for_signal(server: Server) -> None:
    """Until SIGTERM or SIGINT; a line of statistics now and then. A second signal ends the process at once."""
    asked: list[int] = []

    def stop(number: int, frame: object) -> None:
        if asked:
            os._exit(128 + number)
        asked.append(number)

    former = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    line_s = time.monotonic()
    try:
        while not asked:
            time.sleep(0.2)
            if time.monotonic() - line_s >= LINE_EVERY_S:
                line_s = time.monotonic()
                _say(server)
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    print(f"{signal.Signals(asked[0]).name}: answering what is under way, then stopping", file=sys.stderr, flush=True)
    _say(server)


def _say(server: Server) -> None:
    line = server.statistics.line()
    if line:
        print(f"{time.strftime('%H:%M:%S')}  {line}; {server.num_clients} connections", file=sys.stderr, flush=True)
