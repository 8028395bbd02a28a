"""One process of a node, as the supervisor starts it; what it does not need is not even loaded."""

import argparse
import importlib
import os
import sys
from pathlib import Path

from node.errors import ConfigError, WetreadError
from node.log import configure_logging, keep_values_out
from node.process import die_with_parent, roles, stop_requested
from node.settings import load_settings

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Run one role until SIGTERM; the exit code is 0, or 1 with the reason on standard error."""
    parser = argparse.ArgumentParser(prog="node.roles")
    parser.add_argument("role")
    parser.add_argument("--site", type=Path, required=True)
    parser.add_argument("--parent", type=int, required=True)
    asked = parser.parse_args(arguments)
    die_with_parent(asked.parent)  # before SIGTERM is ours: without its supervisor a role must not even begin
    stop = stop_requested()
    try:
        settings = load_settings(asked.site / "config.toml", os.environ)
        configure_logging(settings.log.level, settings.log.format)
        keep_values_out()
        known = roles(settings.dicom.processes)
        if asked.role not in known:
            raise ConfigError(f"this node has no such process; it has {', '.join(known)}")
        if asked.role == "worker":
            importlib.import_module("node.roles.worker").run_worker(asked.site, settings, stop)
        else:
            number = known.index(asked.role) + 1
            importlib.import_module("node.roles.receiver").run_receiver(settings, stop, number=number)
    except (WetreadError, OSError) as error:
        sys.stderr.write(f"{asked.role}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
