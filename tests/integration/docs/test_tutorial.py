"""The commands of docs/tutorial.md run in their order, on `flowhook dev`, and print what the page says.

Files are written where the page says so: "into `NAME`:" stands before their content. Ports are others. Blocks without a
prompt need the internet, or install Flowhook.
"""

from __future__ import annotations

import re

from support import pages, transcripts
from support.commands import Up

PAGE = pages.DOCS / "tutorial.md"
BLOCKS = pages.blocks(PAGE)
DEV = "$ flowhook dev\n"


def first_words(lines):
    return {line.split()[0] for line in lines}


def test_its_commands_print_what_it_says(tmp_path, unused_tcp_port):
    service = f"127.0.0.1:{unused_tcp_port}"
    shell = transcripts.Shell(tmp_path, {"127.0.0.1:9000": service})
    dev, text, run = None, PAGE.read_text(encoding="utf-8"), 0
    try:
        for block in BLOCKS:
            file = re.search(r"into\s+`([^`]+)`[^`]*:\n+$", block.before)
            if file:
                code = block.text.replace("127.0.0.1:9000", service).replace("9000", str(unused_tcp_port))
                (tmp_path / file[1]).write_text(code)
                while file[1] == "payments.yaml" and dev.next_line() != "flow payments: updated":
                    pass
            elif block.text.startswith(DEV):
                dev = Up(tmp_path / ".flowhook", "--no-open", tmp_path, command="dev")
                shell.replaced[transcripts.DOCUMENTED_URL] = dev.where["http_url"]
                assert first_words(block.text.splitlines()[1:]) <= first_words(dev.lines)
            elif block.text.startswith("$ "):
                text = text.replace(block.text, shell.check(block.text))
                run += 1
    finally:
        shell.close()
        if dev:
            dev.close()
    assert run > 10
    if transcripts.RENEW:
        PAGE.write_text(text, encoding="utf-8")


def test_every_file_of_it_is_written():
    files = {"yaml": 1, "python": 1, "json": 2}
    for language, number in files.items():
        assert len([block for block in BLOCKS if block.language == language]) == number
