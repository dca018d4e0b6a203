"""Make the collection of this checkout importable in unit tests, the way Ansible itself does it."""

from pathlib import Path

from ansible.plugins.loader import init_plugin_loader

init_plugin_loader([str(Path(__file__).parent / "collections")])
