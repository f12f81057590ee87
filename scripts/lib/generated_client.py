"""Registers, reads and cancels with the client that openapi-python-client made of the description."""

import sys

from client import Client
from client.api.deadlines import cancel_deadline, get_deadline, put_deadline
from client.models import NewDeadline

client = Client(base_url=sys.argv[1], raise_on_unexpected_status=True)
put = put_deadline.sync_detailed("orders", "order-42", client=client, body=NewDeadline(delay="30m"))
assert put.status_code == 201 and put.parsed.result.value == "created", put
got = get_deadline.sync("orders", "order-42", client=client)
assert got.state.value == "scheduled" and got.due_at == put.parsed.due_at, got
gone = cancel_deadline.sync("orders", "order-42", client=client)
assert gone.result.value == "cancelled", gone
assert get_deadline.sync_detailed("orders", "order-42", client=client).status_code == 404
print("the generated client registers, reads and cancels")
