"""Each program's export, read by content: who said what when, what it answers, and what is no message of a person."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from chat_exports import (
    ANNA,
    BEN,
    BOT,
    discord,
    discord_message,
    discord_package,
    discord_user,
    reply,
    slack,
    slack_message,
    telegram,
    telegram_message,
    write,
    zipped,
)
from tinyforge.dataset.rows import read_rows
from tinyforge.errors import InputError
from tinyforge.ingest.chats import read_chats, recognise
from tinyforge.ingest.chats.records import Chat

NOON = 1709294400.0  # 2024-03-01 12:00 UTC


def said(chat: Chat) -> list[tuple[str, str]]:
    return [(chat.shown(m.author), m.text) for m in chat.messages if not m.unused]


def unused(chat: Chat) -> dict[str, str]:
    return {m.place: m.unused for m in chat.messages if m.unused}


def test_discord_chat_exporter(tmp_path: Path) -> None:
    likes = [{"emoji": {"name": "x"}, "count": 1, "users": [{"id": "103", "name": "cleo", "nickname": "Cleo Brandt"}]}]
    messages = [
        discord_message(1, ANNA, 0, "hi <@102> <a:wave:77> see <#5>", mentions=[discord_user(BEN)], reactions=likes),
        discord_message(2, BEN, 1, "hello", **reply(1)),
        discord_message(3, BOT, 2, "I am a bot"),
        discord_message(4, ANNA, 3, "Pinned a message.", type="ChannelPinnedMessage"),
        discord_message(5, ANNA, 4, "", attachments=[{"id": "1", "fileName": "anna.png", "url": "x"}]),
        discord_message(6, ANNA, 5, " "),
    ]
    path = discord(tmp_path / "Garden Club - general [55].json", messages)
    assert recognise(path) == "Discord (DiscordChatExporter)"
    chat = read_chats([path])
    assert said(chat) == [("Anna Okafor", "hi @Ben Tamm :wave: see #channel"), ("Ben Tamm", "hello")]
    assert chat.messages[1].reply_to == "1" and chat.messages[0].time == NOON - 7200 + 0.25
    assert unused(chat) == {
        "message 3": "bot",
        "message 4": "system message",
        "message 5": "media only",
        "message 6": "no text",
    }
    assert chat.people["101"] == ["Anna Okafor", "anna_o", "101"] and "Cleo Brandt" in chat.people["103"]


def test_a_folder_of_channels_and_an_overlapping_export(tmp_path: Path) -> None:
    discord(tmp_path / "a.json", [discord_message(1, ANNA, 0, "one")])
    discord(tmp_path / "b.json", [discord_message(1, BEN, 0, "two")], channel="56")
    discord(tmp_path / "c.json", [discord_message(1, ANNA, 0, "one"), discord_message(2, ANNA, 1, "three")])
    write(tmp_path / "notes.json", {"no": "chat"})
    chat = read_chats([tmp_path])
    assert [text for _, text in said(chat)] == ["one", "two", "three"]
    assert chat.notes == ["1 messages came twice and are kept once"]


def test_a_broken_discord_message_is_named(tmp_path: Path) -> None:
    broken = {k: v for k, v in discord_message(2, ANNA, 0, "x").items() if k != "author"}
    path = discord(tmp_path / "a.json", [discord_message(1, ANNA, 0, "x"), broken])
    with pytest.raises(InputError, match=r"message 2 of a.json is not as DiscordChatExporter writes it .*author"):
        read_chats([path])


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_discord_package_holds_own_messages_only(tmp_path: Path, form: str) -> None:
    folder = discord_package(tmp_path / "package")
    path = folder if form == "folder" else zipped(folder, tmp_path / "package.zip")
    chat = read_chats([path])
    assert chat.format == "Discord package" and chat.own_only
    assert said(chat) == [
        ("Anna Okafor", "hello there"),
        ("Anna Okafor", "still there @102?"),
        ("Anna Okafor", "one, two"),
    ]
    assert unused(chat) == {"message 2": "media only"}


SLACK_DAY = [
    slack_message(
        "U1", "1709287200.000100", "hi <@U2> &amp; <!here>, see <https://x.example|the page> in <#C1|general>"
    ),
    slack_message("U2", "1709287260.000200", "thread start", thread_ts="1709287260.000200", reply_count=1),
    slack_message("U2", "1709287270.000300", "<@U1> has joined", subtype="channel_join"),
    slack_message("U9", "1709287280.000400", "deployed", subtype="bot_message", bot_id="B1"),
    slack_message("U1", "1709287290.000500", "", files=[{"id": "F1", "name": "x.png"}], subtype="file_share"),
    slack_message("U1", "1709297300.000600", "in the thread", thread_ts="1709287260.000200", parent_user_id="U2"),
]


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_slack(tmp_path: Path, form: str) -> None:
    folder = slack(tmp_path / "export", {"2024-03-01": SLACK_DAY})
    chat = read_chats([folder if form == "folder" else zipped(folder, tmp_path / "export.zip")])
    assert chat.format == "Slack export"
    assert said(chat) == [
        ("Anna", "hi @Ben Tamm & @here, see the page in #general"),
        ("Ben Tamm", "thread start"),
        ("Anna", "in the thread"),
    ]
    assert list(unused(chat).values()) == ["system message", "bot", "media only"]
    threads = [m.thread for m in chat.messages if not m.unused]
    assert threads == ["", "1709287260.000200", "1709287260.000200"]


TELEGRAM = [
    telegram_message(1, "Anna Okafor", 0, ["hi ", {"type": "mention", "text": "@bent"}, "!"]),
    telegram_message(2, "Ben Tamm", 1, "yes", reply_to_message_id=1),
    telegram_message(3, "Ben Tamm", 2, "", photo="photos/1.jpg"),
    telegram_message(4, "Ben Tamm", 3, "not mine", forwarded_from="News"),
    {"id": 5, "type": "service", "date": "2024-03-01T10:04:00", "actor": "Ben Tamm", "actor_id": "user8",
     "action": "pin_message", "text": ""},
]  # fmt: skip


def test_telegram_one_chat_and_a_whole_account(tmp_path: Path) -> None:
    alone = telegram(tmp_path / "one" / "result.json", TELEGRAM)
    inner = {"name": "Ben", "type": "personal_chat", "id": 1, "messages": TELEGRAM}
    robot = {"name": "QuizBot", "type": "bot_chat", "id": 2, "messages": [telegram_message(1, "QuizBot", 0, "beep")]}
    account = write(tmp_path / "all" / "result.json", {"about": "", "chats": {"about": "", "list": [inner, robot]}})
    for path, bots in ((alone, []), (account, ["bot"])):
        chat = read_chats([path])
        assert chat.format == "Telegram" and said(chat) == [("Anna Okafor", "hi @bent!"), ("Ben Tamm", "yes")]
        assert chat.messages[1].reply_to == "1" and chat.messages[1].time == 1709287260
        assert list(unused(chat).values()) == ["media only", "forwarded", "system message", *bots]
    assert ["bent"] in chat.people.values()


IOS = (
    "[13/02/24, 21:05:07] Anna Okafor: \u200eMessages and calls are end-to-end encrypted.\n"
    "[13/02/24, 21:05:09] Anna Okafor: first line\r\nsecond line: with a colon\n"
    "\u200e[13/02/24, 21:06:00] Ben Tamm: \u200eimage omitted\n"
    "\u200e[13/02/24, 21:06:10] Ben Tamm: look \u200e<attached: 0001-PHOTO.jpg>\n"
    "[14/02/24, 01:00:00] Ben Tamm: @\u2068Anna\u2069 yes \u200e<This message was edited>\n"
)
ANDROID = (
    "2/13/24, 9:05\u202fPM - Messages and calls are end-to-end encrypted. Tap to learn more.\n"
    "2/13/24, 9:05\u202fPM - Anna Okafor: first line\nsecond line: with a colon\n"
    "2/13/24, 9:06\u202fPM - Ben Tamm: <Media omitted>\n"
    "2/13/24, 9:06\u202fPM - Ben Tamm: IMG-1.jpg (file attached)\nlook\n"
    '2/13/24, 9:07\u202fPM - Ben Tamm changed the subject to "a: b"\n'
    "2/13/24, 9:07\u202fPM - Ben Tamm: This message was deleted\n"
    "2/14/24, 1:00\u202fAM - Ben Tamm: @Anna yes\n"
)


@pytest.mark.parametrize("text", [IOS, ANDROID], ids=["ios", "android"])
def test_whatsapp(tmp_path: Path, text: str) -> None:
    chat = read_chats([write(tmp_path / "_chat.txt", text)])
    assert chat.format == "WhatsApp" and chat.notes == []
    assert said(chat) == [
        ("Anna Okafor", "first line\nsecond line: with a colon"),
        ("Ben Tamm", "look"),
        ("Ben Tamm", "@Anna yes"),
    ]
    assert chat.messages[-1].time == 1707872400  # 2024-02-14 01:00
    expected = {"system message", "media only"} | ({"deleted"} if text is ANDROID else set())
    assert set(unused(chat).values()) == expected and chat.messages[0].place == "line 1"


@pytest.mark.parametrize(
    ("dates", "day"),
    [
        (["01/02/2024", "13/02/2024"], "2024-02-01"),  # a 13 can only be a day
        (["02/01/2024", "02/13/2024"], "2024-02-01"),
        (["30.01.24", "01.02.24"], "2024-01-30"),
        (["2024-02-01", "2024-02-03"], "2024-02-01"),
        (["01/02/2024", "02/02/2024", "05/02/2024", "01/03/2024"], "2024-02-01"),  # else time would run backwards
        (["02/01/2024", "02/02/2024", "02/05/2024", "03/01/2024"], "2024-02-01"),
    ],
)
def test_the_order_of_day_and_month_is_inferred_over_the_whole_file(tmp_path: Path, dates: list[str], day: str) -> None:
    from datetime import datetime, timezone

    text = "".join(f"{date}, 10:00 - Anna: hello {date}\n" for date in dates)
    first = read_chats([write(tmp_path / "a.txt", text)]).messages[0]
    assert datetime.fromtimestamp(first.time, timezone.utc).strftime("%Y-%m-%d") == day


def test_an_order_that_cannot_be_told_is_said_and_one_that_cannot_be_is_refused(tmp_path: Path) -> None:
    both = write(tmp_path / "a.txt", "02/02/2024, 10:00 - Anna: x\n03/03/2024, 10:00 - Ben: y\n")
    assert "day/month was taken" in read_chats([both]).notes[0]
    neither = write(tmp_path / "b.txt", "13/02/2024, 10:00 - Anna: x\n02/13/2024, 10:00 - Ben: y\n")
    with pytest.raises(InputError, match=r"b\.txt.*neither day/month nor month/day"):
        read_chats([neither])


def test_what_is_no_chat_is_not_taken_for_one(tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.json", [{"input": "a", "output": "b"}])
    openai = write(tmp_path / "o.json", {"id": 1, "type": "x", "messages": [{"role": "user", "content": "a"}]})
    diary = write(tmp_path / "diary.txt", "On 12/01/2024, 10:00 - we met.\nAnna: no\n")
    assert [recognise(p) for p in (rows, openai, diary, tmp_path / "none")] == ["", "", "", ""]
    with pytest.raises(InputError, match=r"diary\.txt: holds no chat that is known"):
        read_chats([diary])


def test_rows_say_what_to_do_with_a_chat(tmp_path: Path) -> None:
    path = telegram(tmp_path / "result.json", TELEGRAM)
    with pytest.raises(InputError, match=r"is a chat \(Telegram\), not rows\. .*data convert .* --persona NAME"):
        read_rows(path)


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("users.json", "[]")
        archive.writestr("general/2024-03-01.json", b"[" + b" " * 60_000_000 + b"]")
    with pytest.raises(InputError, match=r"would unpack to 60,000,002 bytes"):
        read_chats([path])


def test_two_programs_are_not_mixed(tmp_path: Path) -> None:
    one = telegram(tmp_path / "result.json", TELEGRAM)
    with pytest.raises(InputError, match="chats of two programs: Telegram and WhatsApp"):
        read_chats([one, write(tmp_path / "a.txt", IOS)])


def test_chats_of_one_file_name_are_two_and_a_later_export_adds_its_own(tmp_path: Path) -> None:
    same = "[13/02/24, 21:05:07] Anna Okafor: A happy new year\n"
    ben = same + "[13/02/24, 21:06:00] Ben Tamm: ok\n[13/02/24, 21:06:00] Ben Tamm: ok\n"
    cleo = same + "[13/02/24, 21:07:00] Cleo Brandt: thanks\n"
    files = [write(tmp_path / name / "_chat.txt", text) for name, text in (("a", ben), ("b", cleo))]
    chat = read_chats(files)
    assert len(said(chat)) == 5 and chat.notes == [] and len({m.channel for m in chat.messages}) == 2
    later = write(tmp_path / "c" / "_chat.txt", ben + "[14/02/24, 08:00:00] Anna Okafor: two\nlines\n")
    chat = read_chats([*files, later, files[0]])
    assert [text for _, text in said(chat)[5:]] == ["two\nlines"]
    assert chat.messages[0].channel == chat.messages[-1].channel
    assert chat.notes == ["6 messages came twice and are kept once"]


def test_an_export_that_begins_later_is_of_the_same_chat(tmp_path: Path) -> None:
    """Three exports of one chat, the third over the end of the first and the beginning of the second; and another."""
    lines = [f"[13/02/24, 21:{n:02}:00] {'Ben Tamm' if n % 2 else 'Anna Okafor'}: number {n}\n" for n in range(20)]
    cut = {"a": lines[:10], "b": lines[12:], "c": lines[5:16], "other": [*lines[0:3:2], lines[4], lines[1]]}
    cut["other"] = [line.replace("Ben Tamm", "Cleo Brandt") for line in cut["other"]]  # three that Anna sent to both
    paths = [write(tmp_path / name / "_chat.txt", "".join(some)) for name, some in cut.items()]
    chat = read_chats(paths)
    assert len(said(chat)) == 20 + 4 and chat.notes == ["9 messages came twice and are kept once"]
    assert len({m.channel for m in chat.messages}) == 2
    assert len({m.channel for m in read_chats([paths[0], paths[1]]).messages}) == 2  # the control: nothing in common
