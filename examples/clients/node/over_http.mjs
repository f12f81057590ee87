// Registers a deadline over HTTP. Node 18 or later, no packages.
//   OVERDUE_URL=http://127.0.0.1:7700 QUEUE=orders node over_http.mjs order-42
const url = process.env.OVERDUE_URL ?? "http://127.0.0.1:7700";
const queue = process.env.QUEUE ?? "orders";
const token = process.env.OVERDUE_TOKEN;

const answer = await fetch(`${url}/v1/queues/${queue}/deadlines/${encodeURIComponent(process.argv[2])}`, {
  method: "PUT",
  headers: { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) },
  body: JSON.stringify({ delay: "30m", payload: { amount: "100.00" } }),
});
const body = await answer.json();
if (!answer.ok) throw new Error(body.detail);
console.log(body.due_at);
