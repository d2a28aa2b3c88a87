"""What gives people away is found and replaced, what only looks like it stays, and no planted secret gets through."""

from __future__ import annotations

import json
import stat
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from chat_exports import ANNA, BEN, discord, discord_message, slack, slack_message, telegram, telegram_message, write
from little import make_base
from tinyforge.cli import main
from tinyforge.config import IngestConfig
from tinyforge.ingest import read_sources
from tinyforge.ingest.privacy import find, moved, redact, redact_documents
from tinyforge.ingest.pseudonyms import FILE, Pseudonyms
from tinyforge.ingest.roster import Roster
from tinyforge.records import Block, Document, Span

SAMPLES = Path(__file__).parents[1] / "src" / "tinyforge" / "samples"


def kinds(text: str, roster: Roster | None = None) -> list[tuple[str, str]]:
    return [(f.kind, text[f.start : f.end]) for f in find(text, roster)]


# --- what is found ----------------------------------------------------------------------------------------------------

FOUND = {
    "EMAIL": ["anna.okafor+list@mail.example.org", "o'neil@example.co.uk", "jo@münchen.example",
              "ann [at] example [dot] org"],
    "PHONE": ["+49 170 1234567", "+1 (202) 555-0143", "0044 20 7946 0958", "(202) 555-0143", "202-555-0143",
              "020 7946 0958", "0170 1234567", "06 12 34 56 78", "030/901820"],
    "IBAN": ["DE89370400440532013000", "DE89 3704 0044 0532 0130 00", "gb29 nwbk 6016 1331 9268 19",
             "NO93 8601 1117 947"],
    "CARD": ["4111 1111 1111 1111", "5500-0000-0000-0004", "378282246310005", "3782 822463 10005", "6011000990139424"],
    "IP": ["192.168.178.20", "203.0.113.77", "2001:db8:85a3::8a2e:370:7334", "fe80::1ff:fe23:4567:890a"],
    "SECRET": [
        "sk-proj-abcdEFGH1234567890abcdef", "ghp_16C7e42F292c6912E7710c838347Ae178B4a", "AKIAIOSFODNN7EXAMPLE",
        "xoxb-123456789012-abcdefABCDEF", "glpat-abcDEF1234567890abcd", "hf_abcdefghijklmnopqrstuvwx",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\n-----END RSA PRIVATE KEY-----",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "value"), [(k, v) for k, values in FOUND.items() for v in values])
@pytest.mark.parametrize("around", ["{}", "see {}, please", "({})", "it is {}."])
def test_each_kind_is_found_whole(kind: str, value: str, around: str) -> None:
    assert kinds(around.format(value)) == [(kind, value)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("my password is hunter2!", "hunter2!"),
        ("Password: Tr0ub4dor&3", "Tr0ub4dor&3"),
        ('api_key = "9f86d081884c7d659a2feaa0"', "9f86d081884c7d659a2feaa0"),
        ("token=ab12CD34ef56GH78", "ab12CD34ef56GH78"),
        ("Authorization: Bearer ab12CD34ef56GH78ij", "ab12CD34ef56GH78ij"),
    ],
)
def test_what_follows_a_word_for_a_secret(text: str, value: str) -> None:
    assert kinds(text) == [("SECRET", value)]


def test_a_login_in_a_link_and_digits_after_a_word_for_calling() -> None:
    assert kinds("postgres://anna:s3cret@db.example.org/x") == [("CREDENTIALS", "anna:s3cret")]
    assert kinds("call me at 5550143") == [("PHONE", "5550143")]
    assert kinds("ping 10.0.0.12 again") == [("IP", "10.0.0.12")]


@pytest.mark.parametrize(
    "text",
    [
        "version 1.2.3.4", "see section 1.2.3.4", "1.2.3.4 Scope", "Python 3.12.10.1", "release 10.15.7.1",
        "v2.10.11.12",
        "127.0.0.1", "255.255.255.0", "0.0.0.0", "a[1::2]", "std::vector::size", "12:30:45", "at 10:30:00:12",
        "2024-03-01 10:20:30", "01.02.2024", "1709287200", "1709287200000", "ISBN 978-3-16-148410-0", "9783161484100",
        "0123456789", "commit 9fceb02d0ae598e95dc970b74767f19372d61af8", "d41d8cd98f00b204e9800998ecf8427e",
        "4111 1111 1111 1112", "1234 5678 9012 3456", "DE89370400440532013001", "user 123456789012345678",
        "3.14159265358979",
        "git@github.com:org/repo.git", "photo@2x.png", "@app.route", "a@b", "the password is required",
        "password: string",
        "token = tokens[0]", "key=lambda x: x.y1", "secret = os.environ['API_KEY_1']", "sk-learn-is-fine",
        "12,345,678,901",
        "$1,234,567.89", "100-200-300", "1-2-3-4-5-6-7-8", "2^64 = 18446744073709551616", "RFC 2119, PEP 8016",
        "0.5-0.7",
        "550e8400-e29b-41d4-a716-446655440000", "10000000000 users", "call it 3 or 4 times",
    ],
)  # fmt: skip
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert kinds(text) == []


def test_the_shipped_samples_keep_their_words() -> None:
    """Seven documents about a tool library: what is found in them is looked at here, one by one."""
    found = read_sources([SAMPLES], IngestConfig()).documents
    assert [hit for document in found for hit in kinds(document.text)] == []


# --- names ------------------------------------------------------------------------------------------------------------

PEOPLE = {"1": ["Anna Okafor", "anna_o", "Ännchen"], "2": ["Will Stone"], "3": ["cat"], "4": ["🌸"], "5": ["The Jo"]}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Anna and ANNA and anna's", ["Anna", "ANNA", "anna"]),
        ("anna okafor, Okafor, anna_o, @anna_o", ["anna okafor", "Okafor", "anna_o", "anna_o"]),
        ("Annabel and banana", []),
        ("Anna-Okafor is anna.okafor", ["Anna-Okafor", "anna.okafor"]),
        ("ännchen!", ["ännchen"]),
        ("will you ask Will, or @will?", ["Will", "will"]),
        ("a stone for Stone", ["Stone"]),
        ("my cat, @cat, Cat", ["cat", "Cat"]),
        ("the end. The Jo", ["The Jo"]),
        ("hi 🌸!", ["🌸"]),
        ("emoji :anna_smile:", ["anna"]),
    ],
)
def test_names_of_the_roster(text: str, names: list[str]) -> None:
    assert [value for _, value in kinds(text, Roster(PEOPLE))] == names


# --- stand-ins --------------------------------------------------------------------------------------------------------


def test_offsets_lead_from_the_text_to_what_replaces_it(tmp_path: Path) -> None:
    text = "Write to anna@example.org or call +49 170 1234567, then anna@example.org."
    plain, findings = redact(text, Pseudonyms(tmp_path))
    assert plain == "Write to <EMAIL-1> or call <PHONE-1>, then <EMAIL-1>."
    for one in findings:
        assert plain[one.at : one.at + len(one.stand_in)] == one.stand_in
    for word in ("Write", "call", "then"):
        start = text.index(word)
        assert plain[moved(start, findings) : moved(start + len(word), findings, True)] == word
    inside = text.index("anna") + 2
    assert plain[moved(inside, findings) : moved(inside + 3, findings, True)] == "<EMAIL-1>"
    assert redact(plain, Pseudonyms(tmp_path))[0] == plain


def test_the_same_stand_in_over_reruns_and_spellings_and_nothing_readable_on_disk(tmp_path: Path) -> None:
    first = Pseudonyms(tmp_path)
    assert [first.of("PHONE", "+49 170 1234567"), first.of("EMAIL", "Anna@example.org")] == ["<PHONE-1>", "<EMAIL-1>"]
    assert first.person(["101", "Anna Okafor", "anna_o"]) == "Person-1" and first.person(["102", "Ben"]) == "Person-2"
    assert first.person(["103", "Ben"], taken=["Person-2"]) == "Person-3"  # another of the same name
    first.save()
    again = Pseudonyms(tmp_path)
    assert again.of("PHONE", "0049-170-1234567") == "<PHONE-1>" and again.of("EMAIL", "anna@EXAMPLE.org") == "<EMAIL-1>"
    assert again.person(["ANNA_O"]) == "Person-1" and again.known("anna okafor") == "Person-1"
    stored = (tmp_path / FILE).read_text()
    assert "nna" not in stored and "1234567" not in stored
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    other = Pseudonyms(tmp_path / "other")
    assert other._mark("PERSON", "Ben") != again._mark("PERSON", "Ben")  # another folder, another key


def test_documents_keep_their_structure(tmp_path: Path) -> None:
    text = "Contact\nMail anna@example.org, key AKIAIOSFODNN7EXAMPLE.\nEnd"
    blocks = (
        Block("heading", Span("d", 0, 7), 1),
        Block("paragraph", Span("d", 8, len(text) - 4)),
        Block("paragraph", Span("d", len(text) - 3, len(text))),
    )
    document = Document("d", text, blocks, "a.md")
    (secret,) = redact_documents([document], "auto", Pseudonyms(tmp_path), Counter())
    assert [secret.slice(b.span) for b in secret.blocks] == ["Contact", "Mail anna@example.org, key <SECRET-1>.", "End"]
    counts: Counter[str] = Counter()
    (every,) = redact_documents([document], "on", Pseudonyms(tmp_path), counts)
    assert [every.slice(b.span) for b in every.blocks][1] == "Mail <EMAIL-1>, key <SECRET-1>."
    assert counts == Counter(EMAIL=1, SECRET=1) and every.id == Document.identify("a.md", every.text)
    assert list(redact_documents([document], "off", Pseudonyms(tmp_path), counts)) == [document]
    assert counts == Counter(EMAIL=1, SECRET=1)


# --- canaries ---------------------------------------------------------------------------------------------------------

CANARIES = {
    "authors": ["Zebediah Quillfeather", "zebquill", "Ottoline Vantongeren", "ottovan", "Quillfeather", "Ottoline"],
    "reactions": ["Perpetua Longstaffe", "perpetual_l", "Longstaffe"],
    "mentions": ["Barnabas Wexcombe", "Wexcombe", "barnwex"],
    "text": [
        "zeb.quill@canary.example.net", "otto+home@canary.example.com", "perpetua (at) canary (dot) example",
        "+44 7911 123456", "+1 202 555 0187", "(415) 555-0132", "0171 9876543", "01 44 55 66 77",
        "GB82 WEST 1234 5698 7654 32", "FR1420041010050500013M02606", "NL91ABNA0417164300",
        "4012 8888 8888 1881", "5105105105105100", "371449635398431",
        "198.51.100.23", "10.11.12.113", "2001:db8:1:2:3:4:5:6",
        "sk-canaryABCDEF0123456789abcd", "ghp_canaryABCDEF0123456789abcdefABCD", "AKIACANARY0123456789",
        "xoxp-9876543210-canaryTOKEN", "AIzaSyCanary0123456789abcdefghijklmno", "glpat-CanaryCanary0123456789",
        "eyJjYW5hcnkiOiJ5ZXMifQ.eyJjYW5hcnkiOiJubyJ9Cg.c2lnbmF0dXJlLW9mLWNhbmFyeQ",
        "canaryPass99!", "c4n4ry-t0k3n-0f-l3ngth", "canary:sw0rdfish",
    ],
    "files": ["holiday_of_zebediah_0042.jpg"],
}  # fmt: skip
_AFTER = {"canaryPass99!": "the password is ", "c4n4ry-t0k3n-0f-l3ngth": "secret: ", "canary:sw0rdfish": "https://"}
ZEB, OTTO = ("1", "Zebediah Quillfeather", "zebquill"), ("2", "Ottoline Vantongeren", "ottovan")


def planted() -> list[str]:
    """Every secret in a sentence, and names of everybody in the middle of others'."""
    said = [f"note {_AFTER.get(c, '')}{c}{'@host.example/x' if ':sw' in c else ''} ok" for c in CANARIES["text"]]
    return [*said, "ask zebediah, Perpetua or OTTOLINE about Mr Wexcombe", "longstaffe's list, by perpetual_l"]


def export_discord(folder: Path) -> Path:
    likes = [{"emoji": {"name": "x"}, "count": 1, "users": [{"id": "3", "name": "perpetual_l",
              "nickname": "Perpetua Longstaffe"}]}]  # fmt: skip
    mention = [{"id": "4", "name": "barnwex", "nickname": "Barnabas Wexcombe", "isBot": False}]
    picture = [{"id": "9", "fileName": CANARIES["files"][0], "url": "https://cdn.example/" + CANARIES["files"][0]}]
    messages: list[dict[str, Any]] = []
    for text in planted():
        n = len(messages) + 1
        messages.append(discord_message(n, ZEB, n, f"{text} <@4>", reactions=likes, mentions=mention))
        messages.append(discord_message(n + 1, OTTO, n + 1, f"you said {text}", attachments=picture))
    late = {"type": "Reply", "reference": {"messageId": "2"}}  # Ottoline is quoted
    messages += [
        discord_message(900, ZEB, 300, "what was that again?", **late),
        discord_message(901, OTTO, 301, "that"),
    ]
    messages.append(discord_message(902, ZEB, 302, "", attachments=picture))
    return discord(folder / "Zebediah Quillfeather [55].json", messages)


def export_whatsapp(folder: Path) -> Path:
    lines = []
    for minute, text in enumerate(planted()):
        clock = f"01/03/2024, {10 + minute // 60}:{minute % 60:02d}"
        lines += [f"{clock} - Zebediah Quillfeather: {text}", f"{clock} - Ottoline Vantongeren: you said {text}"]
    lines.append(f"01/03/2024, 12:00 - Zebediah Quillfeather: {CANARIES['files'][0]} (file attached)")
    extra = "01/03/2024, 12:01 - {}: hello\n"
    others = [*CANARIES["reactions"][:2], *CANARIES["mentions"][::2], "zebquill", "ottovan"]
    return write(
        folder / "WhatsApp Chat with Zebediah Quillfeather.txt",
        "\n".join(lines) + "\n" + "".join(map(extra.format, others)),
    )


def export_telegram(folder: Path) -> Path:
    messages, n = [], 0
    for text in planted():
        n += 2
        like = [{"type": "emoji", "emoji": "x", "recent": [{"from": "Perpetua Longstaffe", "from_id": "user30"}]}]
        parts = [f"{text} ", {"type": "mention", "text": "@barnwex"}, {"type": "mention", "text": "@perpetual_l"}]
        messages.append(telegram_message(n, ZEB[1], n % 60, parts, reactions=like))
        messages.append(telegram_message(n + 1, OTTO[1], n % 60, f"you said {text}", reply_to_message_id=n))
    who = [{"type": "mention_name", "text": "Barnabas Wexcombe", "user_id": 77}, {"type": "mention",
            "text": "@ottovan"}, {"type": "mention", "text": "@zebquill"}]  # fmt: skip
    messages.append(telegram_message(998, ZEB[1], 59, who))
    return telegram(folder / "result.json", messages)


def export_slack(folder: Path) -> Path:
    people = [("U1", ZEB), ("U2", OTTO), ("U3", ("", "Perpetua Longstaffe", "perpetual_l")),
              ("U4", ("", "Barnabas Wexcombe", "barnwex"))]  # fmt: skip
    users = [{"id": u, "name": p[2], "real_name": p[1], "profile": {"display_name": p[1]}} for u, p in people]
    day = []
    for n, text in enumerate(planted()):
        day.append(slack_message("U1", f"17092{n:05d}.000100", f"{text} <@U4>"))
        day.append(slack_message("U2", f"17092{n:05d}.000200", f"you said {text}"))
    return slack(folder / "Zebediah export", {"2024-03-01": day}, users)


EXPORTS = {"discord": export_discord, "whatsapp": export_whatsapp, "telegram": export_telegram, "slack": export_slack}


def reached(folder: Path) -> set[str]:
    """The planted strings that stand in any file below, in a name or in the bytes, whatever the case."""
    found = set()
    for file in folder.rglob("*"):
        held = (file.name + "\n" + (file.read_bytes().decode("utf-8", "replace") if file.is_file() else "")).lower()
        found |= {c for group in CANARIES.values() for c in group if c.lower() in held}
    return found


def test_forty_are_planted() -> None:
    assert sum(map(len, CANARIES.values())) == 40


@pytest.mark.parametrize("program", EXPORTS)
def test_no_planted_secret_reaches_the_output(tmp_path: Path, program: str) -> None:
    export = EXPORTS[program](tmp_path / "in")
    out = tmp_path / "out"
    arguments = ["data", "convert", str(export), "--out", str(out / "rows.jsonl"), "--persona", OTTO[1]]
    assert main(arguments) == 0
    assert reached(out) == set()
    assert len((out / "rows.jsonl").read_text().splitlines()) > 1
    before = (out / "rows.jsonl").read_bytes()
    assert main(arguments) == 0 and (out / "rows.jsonl").read_bytes() == before  # stable over reruns


@pytest.mark.parametrize("program", EXPORTS)
def test_with_keep_pii_they_are_there(tmp_path: Path, program: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The control: the export holds them, and the test would see them."""
    export = EXPORTS[program](tmp_path / "in")
    out = tmp_path / "out"
    arguments = ["data", "convert", str(export), "--out", str(out / "rows.jsonl"), "--persona", OTTO[1]]
    assert main([*arguments, "--keep-pii"]) == 0
    assert set(CANARIES["text"]) <= reached(out) and "zebediah quillfeather" in (out / "rows.jsonl").read_text().lower()
    assert "KEPT as they are" in capsys.readouterr().err


def test_no_planted_secret_reaches_a_run(tmp_path: Path) -> None:
    """From the export straight into training: rows, configuration, events, checkpoints, model, and what is printed."""
    base, export, run = make_base(tmp_path / "base"), export_discord(tmp_path / "in"), tmp_path / "run"
    arguments = ["train", str(export), "--persona", OTTO[1], "--base", str(base), "--out", str(run)]
    assert main([*arguments, "--set", "train.max_steps=2", "--set", "chats.max_characters=200"]) == 0
    assert reached(run) == set()
    rows = [json.loads(line) for line in (run / "dataset" / "train.jsonl").read_text().splitlines()]
    assert rows and json.loads((run / "config.json").read_text())["chats"]["persona"] == "Person-1"


def test_rows_of_other_formats_are_cleaned_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "in.json", [{"instruction": "Mail?", "output": "anna@example.org"}])
    assert main(["data", "convert", str(data), "--out", str(tmp_path / "o.jsonl"), "--to", "sharegpt"]) == 0
    row = json.loads((tmp_path / "o.jsonl").read_text())
    assert row == {"conversations": [{"from": "human", "value": "Mail?"}, {"from": "gpt", "value": "<EMAIL-1>"}]}
    assert "1 e-mail address; names are known only in chats" in capsys.readouterr().err


def test_people_of_two_chats_in_one_folder_keep_their_stand_ins(tmp_path: Path) -> None:
    first = discord(tmp_path / "a.json", [discord_message(1, ANNA, 0, "hi"), discord_message(2, BEN, 1, "ho Anna")])
    line = "01/03/2024, 10:00 - {}: {}\n"
    second = write(tmp_path / "b.txt", line.format("Ben Tamm", "hi Anna") + line.format("Anna Okafor", "bye Ben"))
    for path, name, who in ((first, "a", "bent"), (second, "b", "Anna Okafor")):
        assert main(["data", "convert", str(path), "--out", str(tmp_path / f"{name}.jsonl"), "--persona", who]) == 0
    rows = [json.loads((tmp_path / f"{name}.jsonl").read_text())["messages"] for name in "ab"]
    assert [m["content"] for m in rows[0]] == ["hi", "ho Person-1"]
    assert [m["content"] for m in rows[1]] == ["hi Person-1", "bye Person-2"]
