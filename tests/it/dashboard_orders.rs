//! The pages of orders on the dashboard.

use serde_json::json;

use crate::support::{eventually, http::Site};

const HOSTILE: &str = "<b onclick=alert(1)>&amp;";

#[tokio::test]
async fn orders_are_listed_by_status_and_their_fields_are_text() {
    let site = Site::new("order", "").await;
    let name = site.rig.name().to_string();
    let orders = format!("/v1/orders?queue={name}");
    for id in ["42", "43"] {
        let order = json!({"id": id, "delay": "1h", "fields": {"customer": HOSTILE}});
        site.caller.call("POST", &orders, order).await.is(201);
    }
    let paid = format!("/v1/orders/43/pay?queue={name}");
    site.caller.call("POST", &paid, json!({})).await.is(200);

    let page = async |path: &str| {
        let answer = site.caller.get(path).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.text
    };
    let created = page(&format!("/orders/{name}")).await;
    assert!(created.contains("created 1") && created.contains("paid 1"), "{created}");
    assert!(created.contains(">42<") && !created.contains(">43<"), "{created}");
    let ended = page(&format!("/orders/{name}?status=paid")).await;
    assert!(ended.contains(">43<") && ended.contains("Ended"), "{ended}");
    let order = page(&format!("/orders/{name}/order?id=42")).await;
    assert!(
        order.contains("&lt;b onclick=alert(1)&gt;&amp;amp;") && !order.contains("<b onclick"),
        "{order}"
    );
    assert!(page(&format!("/orders/{name}/order?id=44")).await.contains("There is no such order"));
    // Their deadlines change with them only.
    let deadline = page(&format!("/queues/{name}/id?id=42")).await;
    assert!(deadline.contains("change with their orders") && !deadline.contains("Fire now"), "{deadline}");
    assert_eq!(site.caller.get("/orders/nowhere").await.status, 404);
    site.serve.stop().await;
}

#[tokio::test]
async fn what_is_dead_in_a_queue_of_orders_can_be_deleted() {
    let site = Site::new("order", "").await;
    let name = site.rig.name().to_string();
    // Without an order of that id it cannot expire, so it goes to the dead set.
    site.rig.zadd("ghost", 1_767_225_600_000_i64).await;
    let path = format!("/queues/{name}/id?id=ghost");
    eventually("it is dead", async || site.caller.get(&path).await.text.contains("Delete it").then_some(()))
        .await;
    let form = |action: &'static str| {
        let request =
            site.caller.request("POST", &path).header("content-type", "application/x-www-form-urlencoded");
        request.body(format!("action={action}")).send()
    };
    assert_eq!(form("cancel").await.unwrap().status(), 409);
    let deleted = form("delete").await.unwrap();
    assert!(deleted.text().await.unwrap().contains("Deleted."), "the page that it leads to says so");
    assert_eq!(site.rig.counts().await.unwrap().dead, 0);
    site.serve.stop().await;
}

#[tokio::test]
async fn a_queue_without_orders_says_so() {
    let site = Site::pull().await;
    let answer = site.caller.get(&format!("/orders/{}", site.rig.name())).await;
    assert_eq!(answer.status, 404);
    assert!(answer.text.contains("has no orders"), "{}", answer.text);
    site.serve.stop().await;
}
