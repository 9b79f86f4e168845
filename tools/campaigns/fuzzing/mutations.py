"""Changes to the content of a file: of its bytes, and of what its format makes of them.

Each takes the valid content and a source of random numbers. That is random.Random in a campaign; a test may give
hypothesis' own (`strategies.randoms`), which then shrinks what fails.
"""

from __future__ import annotations

import copy
import io
import json
import pickletools
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import yaml

Mutate = Callable[[bytes, random.Random], bytes]

# Values where one of another kind, or another size, was expected
NUMBERS: list[Any] = [
    *(0, 1, -1, 2, 3, 255, 256, 65536, 2**31 - 1, 2**31, 2**32, 2**53, 2**63, -(2**63), 2**64, 10**30, 10**400),
    *(0.5, -0.5, 1e-320, 1e300, -1e300, float("nan"), float("inf"), float("-inf"), -0.0),
]
TEXTS = [
    *("", " ", "a", "0", "1", "-1", "1e999", "nan", "inf", "1_0", "0x10", "None", "null", "true", "٣", "１", "½"),
    *(".", "..", "../../x", "/etc/passwd", "/dev/zero", "C:\\x", "a/b", "a\\b", "~", "~/x", "$HOME", "x" * 300),
    *("\0", "a\0b", "a\nerror: forged", "\r", "\x1b[2J", "\u202egpj", "\u2028", "\ufeff", "\ud800", "\U0001f600"),
    *("=1+1", "'", '"', "<b>", "&amp;", "{}", "[]", "%s", "{0}", "é", "e\u0301", "a" * 5000),
]
OTHERS: list[Any] = [None, True, False, [], {}, [[]], [{}], [None], {"": None}, {"id": 1}, [0, 0, 0, 0], [1, 2]]
DEEP = "@deep@"  # stands for lists within lists, which Python's own functions could not write
TOKENS = [
    *(b"\0", b"\n", b"\r\n", b"\r", b"\t", b",", b";", b" ", b'"', b"'", b"\\", b"[", b"]", b"{", b"}", b":", b"#"),
    *(b"&a ", b"*a", b"!!python/name:os.system ", b"<<: ", b"---\n", b"%YAML 9\n", b"|", b">", b"?", b"- "),
    *(b"<", b">", b"</", b"/>", b"<![CDATA[", b"&lt;", b"&x;", b"<!--", b'<!DOCTYPE a [<!ENTITY x "y">]>', b"<?xml?>"),
    *(b"1e999", b"-1", b"nan", b"inf", b"99999999999999999999", b"0.5", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe"),
    *(b"\xed\xa0\x80", b"\xe2\x80\xa8", b"[" * 3000, b"9" * 5000, b"\x1b[2J", b"\xe2\x80\xae"),
]


def value(dice: random.Random) -> Any:
    """Anything that JSON may hold."""
    if dice.random() < 0.02:
        return DEEP
    return copy.deepcopy(dice.choice(dice.choice([NUMBERS, TEXTS, OTHERS])))


def raw(content: bytes, dice: random.Random) -> bytes:
    """One to six changes of bytes: flipped, cut, repeated, put in, overwritten."""
    made = bytearray(content)
    for _ in range(dice.choice([1, 1, 1, 2, 3, 6])):
        start = dice.randrange(len(made) + 1)
        end = min(len(made), start + dice.choice([1, 1, 2, 4, 8, 64, len(made)]))
        kind = dice.randrange(9)
        if kind <= 1 and made:
            made[dice.randrange(len(made))] ^= 1 << dice.randrange(8)
        elif kind == 2:
            del made[start:end]
        elif kind == 3:
            made[start:start] = made[start:end] * dice.choice([1, 2, 50])
        elif kind == 4:
            made[start:start] = dice.choice(TOKENS)
        elif kind == 5:
            made[start:end] = bytes(dice.randrange(256) for _ in range(min(end - start, 64)))
        elif kind == 6:
            made[start : start + 4] = struct.pack(
                dice.choice(["<I", ">I"]), dice.choice([0, 1, 2**31, 2**32 - 1, 65535])
            )
        elif kind == 7:
            del made[start:]
        else:
            made[start:end] = b"\0" * (end - start)
    return bytes(made)


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of each value in a tree."""
    found = [path]
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, one in inside:
        found += places(one, (*path, key))
    return found


def tree(root: Any, dice: random.Random) -> Any:
    """A tree of JSON values with one to three changes: another value, a key that is gone or called otherwise, an entry
    that stands twice or in another's place."""
    root = copy.deepcopy(root)
    for _ in range(dice.choice([1, 1, 1, 2, 3])):
        path = dice.choice(places(root))
        if not path:
            if dice.random() < 0.1:
                return value(dice)
            continue
        owner = root
        for key in path[:-1]:
            owner = owner[key]
        change(owner, path[-1], root, dice)
    return root


def change(owner: Any, key: Any, root: Any, dice: random.Random) -> None:
    """One change of owner[key]."""
    kind, old = dice.randrange(8), owner[key]
    if kind == 0:
        del owner[key]
    elif kind == 1 and isinstance(owner, list):
        owner.append(copy.deepcopy(old))
    elif kind == 1:
        owner[str(dice.choice(TEXTS))] = owner.pop(key)
    elif kind == 2:
        other: Any = root
        for step in dice.choice(places(root)):
            other = other[step]
        owner[key] = copy.deepcopy(other)
    elif kind == 3 and type(old) in (int, float):
        owner[key] = dice.choice([-old, old + 1, old * 1000, str(old), [old], float(old) if abs(old) < 1e300 else 0])
    elif kind == 4 and isinstance(old, str):
        owner[key] = dice.choice([old + dice.choice(TEXTS), dice.choice(TEXTS) + old, old.upper(), [old], old[:-1]])
    else:
        owner[key] = value(dice)


def as_json(content: bytes, dice: random.Random) -> bytes:
    if dice.random() < 0.25:
        return raw(content, dice)
    return json_bytes(tree(json.loads(content), dice), dice.random() < 0.5)


def json_bytes(root: Any, ascii_only: bool = True) -> bytes:
    text = json.dumps(root, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    return text.replace(json.dumps(DEEP).encode(), b"[" * 5000 + b"]" * 5000)


def json_lines(content: bytes, dice: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    if dice.random() < 0.3 or not lines:
        return raw(content, dice)
    at = dice.randrange(len(lines))
    try:
        changed = as_json(lines[at].rstrip(), dice) + dice.choice([b"\n", b"\n", b"\n", b"", b"\r\n"])
    except ValueError:
        return raw(content, dice)
    return b"".join([*lines[:at], changed, *lines[at + dice.choice([1, 1, 0]) :]])


def as_yaml(content: bytes, dice: random.Random) -> bytes:
    if dice.random() < 0.4:
        return raw(content, dice) if dice.random() < 0.5 else cells(content, dice)
    changed = tree(yaml.safe_load(content), dice)
    if dice.random() < 0.3:
        return json_bytes(changed)
    made = yaml.safe_dump(changed, allow_unicode=dice.random() < 0.5, sort_keys=False).encode("utf-8", "surrogatepass")
    return made.replace(f"'{DEEP}'".encode(), b"[" * 500 + b"]" * 500)


def cells(content: bytes, dice: random.Random) -> bytes:
    """Tables and lists: a cell with another text, lines that are gone, repeated, exchanged or put together."""
    if dice.random() < 0.2:
        return raw(content, dice)
    lines = content.decode("utf-8", "surrogateescape").split("\n")
    for _ in range(dice.choice([1, 1, 2, 4])):
        at, kind = dice.randrange(len(lines)), dice.randrange(7)
        parts = re.split(r"([,;\t |:]+)", lines[at])
        if kind == 0 and len(lines) > 1:
            del lines[at]
        elif kind == 1:
            lines.insert(at, dice.choice(lines))
        elif kind == 2:
            other = dice.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        elif kind == 3:
            lines[at] = "".join(parts[: dice.randrange(len(parts)) + 1])
        else:
            new = (
                dice.choice(TEXTS)
                if dice.random() < 0.6
                else repr(dice.choice(NUMBERS[:-1] if kind > 4 else NUMBERS[:10]))
            )
            parts[dice.randrange(0, len(parts), 2)] = new
            lines[at] = "".join(parts)
    return b"\n".join(written(line) for line in lines)


def written(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def xml(content: bytes, dice: random.Random) -> bytes:
    """Markup: the text or the name of an element, elements that are gone, repeated or nested without end."""
    if dice.random() < 0.3:
        return raw(content, dice)
    text = content.decode()
    for _ in range(dice.choice([1, 1, 2, 3])):
        found = list(re.finditer(r"<(\w+)>([^<]*)</\1>|<(\w+)>|</(\w+)>", text))
        if not found:
            return raw(content, dice)
        one, kind = dice.choice(found), dice.randrange(6)
        new = dice.choice(TEXTS) if dice.random() < 0.5 else str(dice.choice(NUMBERS[:16]))
        new = re.sub("[\ud800-\udfff]", "", new).replace("\0", "")
        if kind <= 1 and one[1]:
            made = f"<{one[1]}>{new}</{one[1]}>"
        elif kind == 2:
            made = ""
        elif kind == 3:
            made = one[0] * dice.choice([2, 3, 500])
        elif kind == 4:
            made = one[0].replace(
                one[1] or one[3] or one[4], dice.choice(["object", "name", "bndbox", "part", "xmin", "x"])
            )
        else:
            made = f"<{'a><' * dice.choice([1, 1000])}{one[0].strip('<>')}>"
        text = text[: one.start()] + made + text[one.end() :]
    return text.encode("utf-8", "surrogatepass")


def safetensors(content: bytes, dice: random.Random) -> bytes:
    """The header's JSON under a length that fits, so that what is changed is read; or the bytes."""
    if dice.random() < 0.35:
        return raw(content, dice)
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    kinds = ["F8_E4M3", "F8_E5M2", "BF16", "F16", "F64", "I64", "U8", "BOOL", "C64", "I8", "U64", "F4", "F6_E2M3", "X"]
    name = dice.choice(list(header))
    entry, data = header[name], content[8 + length :]
    kind = dice.randrange(5)
    if kind == 0 and isinstance(entry, dict) and "dtype" in entry:  # another type, of a size that fits
        start, end = entry["data_offsets"]
        entry["dtype"] = dice.choice(kinds)
        width = {"F6": 6, "F8": 8, "BF": 16, "F1": 16, "F6 ": 64, "I6": 64, "U6": 64, "F4": 4}.get(
            entry["dtype"][:2], 8
        )
        width = {"F64": 64, "C64": 64}.get(entry["dtype"], width)
        entry["shape"] = [(end - start) * 8 // width]
    elif kind == 1 and isinstance(entry, dict) and "data_offsets" in entry:  # values that are no numbers
        start, end = entry["data_offsets"]
        fill = struct.pack("<f", dice.choice([float("nan"), float("inf"), 1e38, -1.0]))
        data = data[:start] + (fill * ((end - start) // 4 + 1))[: end - start] + data[end:]
    else:
        header = tree(header, dice)
    made = json_bytes(header)
    return len(made).to_bytes(8, "little") + made + data


def pth(content: bytes, dice: random.Random) -> bytes:
    """A zip of torch whose pickle, or another member, is changed and whose sums fit; an older format; or the bytes."""
    if dice.random() < 0.3 or not content.startswith(b"PK"):
        return pickled(content, dice) if dice.random() < 0.5 and not content.startswith(b"PK") else raw(content, dice)
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as whole, zipfile.ZipFile(made, "w") as target:
        members = whole.infolist()
        inner = [one for one in members if one.filename.endswith("data.pkl")]
        changed = inner[0] if inner and dice.random() < 0.7 else dice.choice(members)
        for one in members:
            held, name = whole.read(one), one.filename
            if one is changed:
                if dice.random() < 0.1:
                    name = dice.choice(["../x", "x", name.upper(), name + "\0", "archive/" + "d/" * 50])
                held = pickled(held, dice) if name.endswith(".pkl") else raw(held, dice)
                if dice.random() < 0.05:
                    continue
            deflated = zipfile.ZIP_DEFLATED if dice.random() < 0.05 else zipfile.ZIP_STORED
            target.writestr(zipfile.ZipInfo(name), held, deflated)
    return made.getvalue()


def pickled(content: bytes, dice: random.Random) -> bytes:
    """A pickle with opcodes that are gone, repeated, exchanged, or have another argument."""
    if dice.random() < 0.3:
        return raw(content, dice)
    try:
        spots = [place for _, _, place in pickletools.genops(content)]
    except Exception:  # more than one pickle, or none
        return raw(content, dice)
    parts = [content[a:b] for a, b in zip(spots, [*spots[1:], len(content)], strict=True)]
    for _ in range(dice.choice([1, 1, 2, 4])):
        at, kind = dice.randrange(len(parts)), dice.randrange(6)
        if kind == 0 and len(parts) > 1:
            del parts[at]
        elif kind == 1:
            parts.insert(at, dice.choice(parts))
        elif kind == 2:
            other = dice.randrange(len(parts))
            parts[at], parts[other] = parts[other], parts[at]
        elif kind == 3:
            parts[at] = dice.choice(
                [b"N", b"K\x01", b"M\xff\xff", b"J\xff\xff\xff\x7f", b"]", b"}", b")", b"0", b"(", b"t", b"R", b"b"]
            )
        elif kind == 4:
            parts[at] = raw(parts[at], dice)
        else:
            names = [
                b"ctorch\nHalfStorage\n",
                b"cnumpy\nndarray\n",
                b"cos\nsystem\n",
                b"ccollections\nOrderedDict\n",
                b"ctorch\nfloat8_e4m3fn\n",
            ]
            parts[at] = dice.choice(names)
    return b"".join(parts)


def image(content: bytes, dice: random.Random) -> bytes:
    """A picture: its chunks with sums that fit, sizes in its header, or the bytes."""
    if content.startswith(b"\x89PNG") and dice.random() < 0.7:
        return png(content, dice)
    if content[:4] in (b"II*\0", b"MM\0*") and dice.random() < 0.7:
        return tiff(content, dice)
    if content.startswith(b"\xff\xd8") and dice.random() < 0.4:
        marks = [found.start() for found in re.finditer(rb"\xff[\xc0-\xfe]", content)]
        at = dice.choice(marks) + dice.randrange(20)
        return content[:at] + raw(content[at : at + 16], dice) + content[at + 16 :]
    return raw(content, dice)


def png(content: bytes, dice: random.Random) -> bytes:
    chunks, at = list[tuple[bytes, bytes]](), 8
    while at + 8 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    for _ in range(dice.choice([1, 1, 2])):
        spot = dice.randrange(len(chunks))
        name, data = chunks[spot]
        kind = dice.randrange(6)
        if kind == 0 and len(chunks) > 1:
            del chunks[spot]
        elif kind == 1:
            chunks.insert(dice.randrange(len(chunks)), (name, data))
        elif kind == 2 and name == b"IHDR":
            sides = [struct.pack(">I", dice.choice([0, 1, 7, 100, 20000, 2**31 - 1])) for _ in range(2)]
            tail = bytes(dice.choice([0, 1, 2, 3, 4, 6, 8, 16]) for _ in range(5))
            chunks[spot] = (name, b"".join(sides) + tail if dice.random() < 0.5 else data[:8] + tail)
        elif kind == 3:
            more = dice.choice(
                [b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"iCCP", b"tRNS", b"PLTE", b"acTL", b"fcTL", b"fdAT", b"gAMA"]
            )
            chunks.insert(1 + dice.randrange(len(chunks)), (more, raw(zlib.compress(b"x" * 50), dice)))
        else:
            chunks[spot] = (name, raw(data, dice))
    parts = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ]
    return content[:8] + b"".join(parts)


def tiff(content: bytes, dice: random.Random) -> bytes:
    """An entry of the directory, of twelve bytes, is changed."""
    order = "<" if content.startswith(b"II") else ">"
    (start,) = struct.unpack(f"{order}I", content[4:8])
    (count,) = struct.unpack(f"{order}H", content[start : start + 2])
    made = bytearray(content)
    for _ in range(dice.choice([1, 1, 2, 3])):
        at = start + 2 + 12 * dice.randrange(max(count, 1))
        kind = dice.randrange(3)
        if kind == 0:
            made[at : at + 2] = struct.pack(
                f"{order}H", dice.choice([256, 257, 258, 259, 262, 273, 274, 277, 278, 339, 34665])
            )
        elif kind == 1:
            made[at + 2 : at + 8] = struct.pack(f"{order}HI", dice.randrange(14), dice.choice([0, 1, 2, 1000, 2**31]))
        else:
            made[at + 8 : at + 12] = struct.pack(
                f"{order}I", dice.choice([0, 1, 2, 3, 8, 16, 32, 65535, 2**31, dice.randrange(2**16)])
            )
    return bytes(made)


KINDS: dict[str, Mutate] = {
    ".json": as_json,
    ".jsonl": json_lines,
    ".yaml": as_yaml,
    ".csv": cells,
    ".txt": cells,
    ".xml": xml,
    ".safetensors": safetensors,
    ".pth": pth,
    ".png": image,
    ".jpg": image,
    ".webp": image,
    ".tif": image,
    ".gif": image,
    ".bmp": image,
}


def mutate(name: str, content: bytes, dice: random.Random) -> bytes:
    """The content of a file of that name, changed as its kind of file allows."""
    suffix = name[name.rfind(".") :] if "." in name else ""
    return KINDS.get(suffix, raw)(content, dice)
