#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Plugs and unplugs memory of a QEMU guest, as the guest asks for.

    hotplug.py QMP LINE DEVICE

QMP is the guest's QMP socket and LINE the socket of one of its serial lines, both waited for; DEVICE
is the id of its virtio-mem device. Each line that comes from the guest is a size in MiB, to be had
from then on; the answer is the size that there is when it got there, or when it has taken too long.
"""
import json
import socket
import sys
import time

PATIENCE_S = 30


def connect(path):
    for _ in range(300):
        try:
            server = socket.socket(socket.AF_UNIX)
            server.connect(path)
            return server.makefile('rw')
        except OSError:
            time.sleep(0.1)
    sys.exit(f'hotplug: nobody listens at {path}')


def call(qmp, command, **arguments):
    print(json.dumps({'execute': command, 'arguments': arguments}), file=qmp, flush=True)
    for line in qmp:
        answer = json.loads(line)
        if 'error' in answer:
            sys.exit(f'hotplug: {command}: {answer["error"]["desc"]}')
        if 'return' in answer:
            return answer['return']
    sys.exit(0)     # the guest has ended


def plug(qmp, device, size):
    end = time.monotonic() + PATIENCE_S
    call(qmp, 'qom-set', path=device, property='requested-size', value=size)
    while True:
        now = call(qmp, 'qom-get', path=device, property='size')
        if now == size or time.monotonic() > end:
            return now
        time.sleep(0.05)


def main():
    qmp_path, line_path, device = sys.argv[1:]
    qmp = connect(qmp_path)
    line = connect(line_path)
    qmp.readline()
    call(qmp, 'qmp_capabilities')
    for wish in line:
        print(plug(qmp, device, int(wish) << 20) >> 20, file=line, flush=True)


if __name__ == '__main__':
    try:
        main()
    except OSError:
        pass    # the guest has ended
