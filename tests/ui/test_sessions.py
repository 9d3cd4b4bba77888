"""Sessions: how many are kept. What becomes of their chats stands in test_parts.py."""

from ui.sessions import Sessions


def test_all_are_kept_while_there_is_room():
    sessions = Sessions(most=10)
    kept = [sessions.of(str(number)) for number in range(10)]
    assert [sessions.of(str(number)) for number in range(10)] == kept
    assert len(sessions) == 10
    sessions.of("one more")
    assert len(sessions) == 10 and sessions.of("9") is kept[9]
