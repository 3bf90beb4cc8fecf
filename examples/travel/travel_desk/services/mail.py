"""Mail to customers. It is kept, never sent: this desk is an example."""

import sqlite3

from pydantic import Field

from travel_desk.services.operations import Arguments, Json, Operation


class Message(Arguments):
    to: str = Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=254)
    subject: str = Field(min_length=1, max_length=200)
    body: str = Field(min_length=1, max_length=20_000)


class Sent(Arguments):
    to: str


def send_mail(db: sqlite3.Connection, wanted: Message) -> Json:
    number = db.execute(
        "INSERT INTO mail (recipient, subject, body) VALUES (?, ?, ?)", (wanted.to, wanted.subject, wanted.body)
    ).lastrowid
    return {"mail_id": f"MSG-{number}"}


def list_mail(db: sqlite3.Connection, wanted: Sent) -> Json:
    rows = db.execute(
        "SELECT 'MSG-' || id AS mail_id, recipient AS \"to\", subject, body"
        " FROM mail WHERE recipient = ? ORDER BY id",
        (wanted.to,),
    )
    return {"messages": [dict(row) for row in rows]}


OPERATIONS = (
    Operation(kind="send_mail", method="POST", path="/mail/messages", arguments=Message, run=send_mail),
    Operation(kind="list_mail", method="GET", path="/mail/messages", arguments=Sent, run=list_mail),
)
