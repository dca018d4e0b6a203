"""A connection to no host: every step of a batch is said to be as it should be. What is left is the control side's own work."""

import json

from ansible.plugins.connection import ConnectionBase
from ansible_collections.lsst.ldf.plugins.module_utils.batch_runner import MARK

DOCUMENTATION = """
name: nothing
short_description: Answer batches without a host
description: For measuring what the control side of lsst.ldf.batch costs.
author: The provisioning team of the LSST data facility
"""


class Connection(ConnectionBase):
    """Answers as batch_runner does when nothing has to change."""

    transport = "nothing"
    has_pipelining = True

    def _connect(self):
        self._connected = True
        return self

    def exec_command(self, cmd, in_data=None, sudoable=True):
        steps = json.loads(in_data)["steps"]
        results = [[number, {"changed": False}] for number in range(len(steps))]
        answer = {"results": results, "predicted": [], "earlier": [], "pending": 0}
        return 0, (MARK + json.dumps(answer) + "\n").encode(), b""

    def put_file(self, in_path, out_path):
        raise NotImplementedError

    def fetch_file(self, in_path, out_path):
        raise NotImplementedError

    def close(self):
        self._connected = False
