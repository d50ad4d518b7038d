"""Logins that can't be sent again."""

from admin.security.sent_logins import MAX_LOGINS, SentLogins


def test_logins_are_remembered_up_to_a_number():
    sent = SentLogins()
    assert b"0" not in sent
    for number in range(MAX_LOGINS):
        sent.add(str(number).encode())
    sent.add(b"1")
    assert all(str(number).encode() in sent for number in range(MAX_LOGINS))
    sent.add(b"another")
    assert (b"0" in sent, b"1" in sent, b"another" in sent) == (False, True, True)
