//! Spans of deliveries, as a collector gets them.
#![cfg(feature = "otlp")]

use std::time::Duration;

use overdue::queue::{Due, Expected, Mode, Registration, TraceParent};

use crate::support::{
    RedisServer, Rig, eventually, id,
    process::Place,
    receiver::{Answer, Receiver},
};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn contains(body: &[u8], wanted: &[u8]) -> bool {
    body.windows(wanted.len()).any(|part| part == wanted)
}

#[tokio::test]
async fn a_delivery_is_a_span_with_a_link_to_its_registration() {
    let rig = Rig::new().await;
    let collector = Receiver::start(&[Answer::Status(200)]).await;
    let (url, queue) = (RedisServer::shared().url(), rig.name());
    let place = Place::new(&format!("[redis]\nurl = \"{url}\"\n[queue.{queue}.handler]\ntype = \"log\"\n"));
    let endpoint = format!("http://{}", collector.address);
    let env = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "50")];
    let serve = place.serve_with(&env);
    let traced = Registration { id: id("order-42"), due: Due::In(Duration::ZERO), payload: None };
    let traces = [TraceParent::parse(TRACE)];
    rig.schedule_traced(&[traced], &traces, Mode::Replace, Expected::Anything).await.unwrap();
    // In protobuf, ids of traces and spans are bytes, and texts are text.
    let trace = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes();
    let span = 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes();
    let parts: [&[u8]; 6] = [b"overdue deliver", b"order-42", b"overdue.outcome", b"done", &trace, &span];
    let call = eventually("the span comes", async || {
        collector.calls().into_iter().find(|call| parts.iter().all(|part| contains(&call.body, part)))
    })
    .await;
    assert_eq!(call.uri.path(), "/v1/traces");
    serve.stop().await;
}
