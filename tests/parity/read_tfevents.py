"""Reads the TensorBoard event files of a folder with nothing but the standard library; prints one JSON line an event.

Written from the format's description, not from plural's writer: checks both CRC-32C sums of every record.
"""
import json
import pathlib
import struct
import sys


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data):
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def fields(data):
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = varint(data, at)
        elif kind == 1:
            value, at = struct.unpack("<d", data[at:at + 8])[0], at + 8
        elif kind == 5:
            value, at = struct.unpack("<f", data[at:at + 4])[0], at + 4
        elif kind == 2:
            size, at = varint(data, at)
            value, at = data[at:at + size], at + size
        else:
            raise ValueError(f"wire type {kind}")
        yield key >> 3, value


def events(file):
    """The events of one file, in order."""
    data = file.read_bytes()
    at = 0
    while at < len(data):
        head = data[at:at + 8]
        size, = struct.unpack("<Q", head)
        assert struct.unpack("<I", data[at + 8:at + 12])[0] == masked(head)
        body = data[at + 12:at + 12 + size]
        assert len(body) == size
        assert struct.unpack("<I", data[at + 12 + size:at + 16 + size])[0] == masked(body)
        at += 16 + size
        event = {}
        for field, value in fields(body):
            if field == 1:
                assert 1.7e9 < value < 1e10
            elif field == 2:
                event["step"] = value
            elif field == 3:
                event["version"] = value.decode()
            elif field == 7:
                event["session"] = dict(fields(value))[1]
            elif field == 5:
                for one, item in fields(value):
                    assert one == 1
                    item = dict(fields(item))
                    event.setdefault("values", {})[item[1].decode()] = item[2]
        yield event


def folder_events(folder):
    for file in sorted(pathlib.Path(folder).glob("events.out.tfevents.*")):
        yield from events(file)


if __name__ == "__main__":
    for one_event in folder_events(sys.argv[1]):
        print(json.dumps(one_event))
