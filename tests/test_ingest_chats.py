"""Chats given where documents are read: refused with the command that is for them, and no name goes along."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chat_exports import ANNA, BEN, discord, discord_message, discord_package, telegram, telegram_message, write
from mutations import mutated
from tinyforge.cli import main
from tinyforge.config import IngestConfig
from tinyforge.errors import InputError
from tinyforge.ingest import read_sources
from tinyforge.ingest.chats import read_chats, recognise
from tinyforge.ingest.chats.signs import exports_among
from tinyforge.ingest.pool import Call, Limits, Pool

CONFIG = IngestConfig()
LIMITS = Limits(10.0, 200.0)
WHATSAPP = "13/02/2024, 10:00 - Anna Okafor: Who has the drill?\n13/02/2024, 10:01 - Ben Tran: Me\n"
NOTE = "# A note\n\nThe boats lie in the shed behind the club house.\n"


def _telegram(folder: Path) -> Path:
    return telegram(folder / "result.json", [telegram_message(1, "Anna Okafor", 0, "Who has the drill?")])


def _slack(folder: Path) -> Path:
    write(folder / "slack/users.json", [{"id": "U1", "name": "anna", "profile": {"real_name": "Anna Okafor"}}])
    write(folder / "slack/general/2024-03-01.json", [{"type": "message", "user": "U1", "ts": "1.0", "text": "Hello"}])
    return folder / "slack"


EXPORTS: dict[str, Callable[[Path], Path]] = {
    "Discord (DiscordChatExporter)": lambda folder: discord(
        folder / "in.json", [discord_message(1, ANNA, 0, "Who has the drill?"), discord_message(2, BEN, 2, "Me")]
    ),
    "Telegram": _telegram,
    "WhatsApp": lambda folder: write(folder / "_chat.txt", WHATSAPP),
    "Slack export": _slack,
    "Discord package": lambda folder: discord_package(folder / "package"),
}


@pytest.mark.parametrize("program", EXPORTS)
@pytest.mark.parametrize("form", ["as it is", "beside a note", "in a zip"])
def test_a_build_refuses_a_chat_and_says_the_next_step(
    tmp_path: Path, program: str, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = EXPORTS[program](tmp_path / "in")
    if form == "beside a note":
        write(tmp_path / "in" / "note.md", NOTE)
        source = tmp_path / "in"
    elif form == "in a zip":
        files = [p for p in source.rglob("*") if p.is_file()] if source.is_dir() else [source]
        with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
            for path in files:
                archive.write(path, path.relative_to(tmp_path / "in"))
        source = tmp_path / "in.zip"
    if form == "beside a note":
        result = read_sources([source], CONFIG)
        assert [d.source for d in result.documents] == ["note.md"]
        (skip,) = result.skipped
        assert f"is a chat ({program}), not a document." in skip.reason and "data convert EXPORT" in skip.fix
        assert recognise(tmp_path / "in" / Path(skip.path).relative_to(tmp_path / "in")) == program
        return
    for command in ("build", "ingest", *(("synthesize", "index") if program == "WhatsApp" else ())):
        assert main([command, str(source), "--out", str(tmp_path / command)]) == 2
        told = capsys.readouterr().err
        assert f"is a chat ({program}), not a document" in told and "tinyforge data convert EXPORT --persona" in told
        kept = "".join(p.read_text() for p in tmp_path.glob(f"{command}/**/*") if p.is_file())
        assert "Okafor" not in kept and "drill" not in kept


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        ("OpenAI messages", {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}),
        ("ShareGPT", {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}),
        ("Alpaca", {"instruction": "a", "input": "", "output": "b"}),
    ],
)
def test_rows_of_conversations_are_for_training(tmp_path: Path, kind: str, row: dict[str, Any]) -> None:
    write(tmp_path / "a.json", [row])
    (tmp_path / "b.jsonl").write_text(f"{json.dumps(row)}\n{json.dumps(row)}\n")
    with pytest.raises(InputError, match=r"0 of 2 files readable") as caught:
        read_sources([tmp_path], CONFIG)
    assert str(caught.value).count(f"holds rows to train on ({kind}), not a document") == 2
    assert "tinyforge train FILE --out RUN" in str(caught.value)


def test_pages_of_chats_are_refused_too(tmp_path: Path) -> None:
    page = '<div class="chatlog"><div class="chatlog__message-group"><span>Anna Okafor</span> Hello</div></div>'
    write(tmp_path / "discord.html", page)
    page = '<div class="history"><div class="from_name">Anna Okafor</div><div class="text">Hello</div></div>'
    write(tmp_path / "messages.html", page)
    with pytest.raises(InputError, match=r"is a chat \(Discord.*is a chat \(Telegram.*as JSON"):
        read_sources([tmp_path], CONFIG)


def test_documents_that_look_a_little_like_chats_are_read(tmp_path: Path) -> None:
    """The control: what a chat is told by must all be there."""
    write(tmp_path / "log.txt", "Changes\n\n13/02/2024, 10:00 - Fixed: the oars\n")
    write(tmp_path / "users.json", [{"id": "U1", "name": "Otter", "messages": "none"}])
    write(tmp_path / "channel.json", {"id": 1, "messages": [{"date": 1, "content": "x"}]})
    write(tmp_path / "c.html", '<p class="chatlog">The chat log of the ship is a book.</p>')
    write(tmp_path / "rows.json", [{"instruction": "Row", "text": "How to row."}])
    result = read_sources([tmp_path], CONFIG)
    assert len(result.documents) == 5 and result.skipped == []
    assert exports_among(["users.json", "a/b.json", "channel.json"]) == {}
    assert exports_among(["x/messages/c12/channel.json", "x/account/user.json"]) == {"x/": "Discord package"}


def test_a_chat_is_read_within_limits(tmp_path: Path) -> None:
    """The control is the same chat under the usual limits."""
    said = [discord_message(n, ANNA, n / 10, "word " * 400) for n in range(2000)]
    path = discord(tmp_path / "large.json", said)
    assert len(read_chats([path]).messages) == 2000 and recognise(path)
    for small, told in (
        (Limits(30.0, 4.0), r"large\.json: reading it needs more than ingest\.memory_mb = 4\."),
        (Limits(0.0, 512.0), r"large\.json: reading it takes longer than ingest\.timeout_seconds = 0\."),
    ):
        with pytest.raises(InputError, match=told):
            read_chats([path], small)
    out = tmp_path / "rows.jsonl"
    command = ["data", "convert", str(path), "--out", str(out), "--persona", "anna"]
    assert main([*command, "--set", "ingest.memory_mb=32", "--set", "ingest.timeout_seconds=0.001"]) == 2
    assert not out.exists()


def test_damaged_exports_are_refused_and_nothing_worse(tmp_path: Path) -> None:
    """Each program's export with 40 kinds of damage; the last one is whole, and read."""
    with Pool(LIMITS, 1) as pool:
        for number, (program, make) in enumerate(EXPORTS.items()):
            source = make(tmp_path / str(number))
            files = [p for p in sorted(source.rglob("*")) if p.is_file()] if source.is_dir() else [source]
            whole = [(path.name, path.read_bytes()) for path in files]
            outcomes = []
            for turn, (_, data) in enumerate(mutated(whole, 40, seed=number, with_bombs=False)):
                path, before = files[turn % len(files)], whole[turn % len(files)][1]
                path.write_bytes(data)
                outcomes.append(_outcome(source, pool))
                path.write_bytes(before)
            assert "refused" in outcomes, program
            assert _outcome(source, pool) == "read", program


def _outcome(source: Path, pool: Pool) -> str:
    found = next(pool.map([Call("tinyforge.ingest.chats.exports:read", {"path": str(source)})]))
    assert isinstance(found, InputError | dict), found
    return "read" if isinstance(found, dict) else "refused"
