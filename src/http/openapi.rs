//! `/v1/openapi.json`: what `utoipa` reads off the routes, and the errors that follow from what a route is.

use axum::{
    Extension,
    body::Bytes,
    response::{IntoResponse as _, Response},
};
use http::header;
use serde_json::{Map, Value, json};
use utoipa::openapi::{Info, License, OpenApi, OpenApiBuilder};

use super::problem::{Kind, Problem};

/// The document, made once.
#[derive(Clone)]
pub(super) struct Document(Bytes);

/// Errors of single operations, beside those that follow from what they are.
const ERRORS: [(&str, &[Kind]); 23] = [
    ("putDeadline", &[Kind::QueueOfOrders, Kind::PreconditionFailed]),
    ("getDeadline", &[Kind::DeadlineNotFound]),
    (
        "moveDeadline",
        &[
            Kind::QueueOfOrders,
            Kind::DeadlineNotFound,
            Kind::InFlight,
            Kind::Dead,
            Kind::Conflict,
            Kind::PreconditionFailed,
        ],
    ),
    ("cancelDeadline", &[Kind::QueueOfOrders, Kind::DeadlineNotFound, Kind::Dead]),
    (
        "fireDeadline",
        &[Kind::QueueOfOrders, Kind::DeadlineNotFound, Kind::InFlight, Kind::Dead, Kind::PreconditionFailed],
    ),
    ("createDeadline", &[Kind::QueueOfOrders, Kind::IdempotencyKeyReused]),
    ("retryDeadline", &[Kind::DeadlineNotFound, Kind::NotDead]),
    ("readyz", &[Kind::NotReady, Kind::RedisUnavailable]),
    ("claim", &[Kind::NotAPullQueue, Kind::TooManyWaiting]),
    ("batchDeadlines", &[Kind::QueueOfOrders]),
    ("followOrders", &[Kind::TooManyWaiting]),
    ("ack", &[Kind::NotAPullQueue]),
    ("retry", &[Kind::NotAPullQueue]),
    ("extend", &[Kind::NotAPullQueue]),
    ("bury", &[Kind::NotAPullQueue]),
    ("getOrder", &[Kind::OrderNotFound]),
    ("createOrder", &[Kind::OrderConflict, Kind::IntakeFull]),
    ("putOrder", &[Kind::OrderConflict]),
    ("payOrder", &[Kind::OrderNotFound, Kind::OrderConflict, Kind::OrderExpired, Kind::OrderCancelled]),
    ("cancelOrder", &[Kind::OrderNotFound, Kind::OrderConflict, Kind::OrderExpired, Kind::OrderPaid]),
    (
        "extendOrder",
        &[
            Kind::OrderNotFound,
            Kind::OrderConflict,
            Kind::OrderExpired,
            Kind::OrderPaid,
            Kind::OrderCancelled,
        ],
    ),
    ("livez", &[]),
    ("metrics", &[]),
];

/// What stands above the routes.
pub(super) fn head() -> OpenApi {
    let info = Info::builder()
        .title("overdue")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Fires deadlines: register, look up and cancel them, and work off what is due. \
             Errors are application/problem+json (RFC 9457).",
        ))
        .license(Some(License::new("MIT")));
    OpenApiBuilder::new().info(info).build()
}

/// Adds what the routes do not say themselves. `restricted` is whether tokens are needed.
pub(super) fn finish(document: &OpenApi, restricted: bool) -> Document {
    let mut document = serde_json::to_value(document).expect("the document has a JSON form");
    if let Some(paths) = document["paths"].as_object_mut() {
        for (path, item) in paths {
            for (method, operation) in item.as_object_mut().into_iter().flatten() {
                if let Some(operation) = operation.as_object_mut() {
                    complete(path, method, operation, restricted);
                }
            }
        }
    }
    for (name, schema) in document["components"]["schemas"].as_object_mut().into_iter().flatten() {
        exact(name, schema);
    }
    document["components"]["schemas"]["Problem"] = problem_schema();
    if restricted {
        document["components"]["securitySchemes"]["bearer"] =
            json!({"type": "http", "scheme": "bearer", "description": "Scopes: read, write, work, admin"});
    }
    Document(serde_json::to_vec(&document).expect("JSON").into())
}

/// Says what cannot be read off a type. A field that may be left out is never null, and of those that say when, one and
/// only one is there.
fn exact(name: &str, schema: &mut Value) {
    let required: Vec<String> = schema["required"]
        .as_array()
        .map(|names| names.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        .unwrap_or_default();
    for (field, property) in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten()
    {
        if !required.contains(field) {
            never_null(property);
        }
    }
    let one_of: &[&str] = match name {
        "NewDeadline" => &["due_at", "delay"],
        "Move" => &["due_at", "delay", "extend_by"],
        "OrderBody" | "NewOrderBody" => {
            // Neither is fine as well.
            schema["not"] = json!({"required": ["due_at", "delay"]});
            return;
        }
        _ => return,
    };
    let (last, others) = one_of.split_last().expect("there are some");
    let without = |field: &str| {
        let rest = one_of.iter().filter(|other| **other != field);
        json!({"allOf": rest.map(|other| json!({"not": {"required": [other]}})).collect::<Vec<_>>()})
    };
    // Not `oneOf`, which those who generate clients take for several types.
    let last = json!({"required": [last]});
    let chain = others
        .iter()
        .rev()
        .fold(last, |rest, field| json!({"if": {"required": [field]}, "then": without(field), "else": rest}));
    for (keyword, value) in chain.as_object().into_iter().flatten() {
        schema[keyword.as_str()] = value.clone();
    }
}

fn never_null(property: &mut Value) {
    if let Some(types) = property.get_mut("type")
        && let Some([only, null]) = types.as_array().map(Vec::as_slice)
        && null == "null"
    {
        *types = only.clone();
    }
    if let Some([schema, null]) = property["oneOf"].as_array().map(Vec::as_slice)
        && *null == json!({"type": "null"})
    {
        *property = schema.clone();
    }
}

fn complete(path: &str, method: &str, operation: &mut Map<String, Value>, restricted: bool) {
    let id = operation.get("operationId").and_then(Value::as_str).unwrap_or_default();
    let own = ERRORS.iter().find(|(known, _)| *known == id).map_or(&[][..], |(_, kinds)| kinds);
    let mut kinds = own.to_vec();
    kinds.extend([Kind::CrossOrigin, Kind::Internal]);
    if operation.contains_key("security") && restricted {
        kinds.extend([Kind::Unauthorized, Kind::Forbidden]);
    } else {
        operation.remove("security");
    }
    if operation.contains_key("requestBody") {
        kinds.extend([Kind::MalformedRequest, Kind::UnsupportedMediaType, Kind::InvalidValue]);
        kinds.extend([Kind::RequestTimeout, Kind::BodyTooLarge]);
    }
    for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(schema) = parameter.get_mut("schema") {
            never_null(schema);
        }
    }
    let parameters = operation.get("parameters").and_then(Value::as_array).map_or(0, Vec::len);
    let of_orders = path.starts_with("/v1/orders");
    if path.contains("{queue}") || of_orders {
        kinds.push(Kind::QueueNotFound);
    }
    if parameters > 0 || method == "get" {
        kinds.extend([Kind::MalformedRequest, Kind::InvalidValue]);
    }
    if path.starts_with("/v1/queues") || of_orders {
        kinds.push(Kind::RedisUnavailable);
    }
    kinds.sort();
    kinds.dedup();
    let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else { return };
    for group in kinds.chunk_by(|one, other| one.status() == other.status()) {
        responses.insert(group[0].status().to_string(), response(group));
    }
}

/// All errors of one status.
fn response(kinds: &[Kind]) -> Value {
    let titles: Vec<&str> = kinds.iter().map(|kind| kind.parts().2).collect();
    let examples: Map<String, Value> = kinds
        .iter()
        .map(|kind| {
            let problem = Problem::example(*kind);
            (kind.parts().1.to_owned(), json!({"summary": kind.parts().2, "value": problem.body()}))
        })
        .collect();
    let schema = json!({"$ref": "#/components/schemas/Problem"});
    let content = json!({"application/problem+json": {"schema": schema, "examples": examples}});
    let mut response = json!({"description": titles.join("; "), "content": content});
    if let Some((name, value)) = kinds[0].header() {
        response["headers"][name.as_str()] = json!({"schema": {"type": "string"}, "example": value});
    }
    response
}

fn problem_schema() -> Value {
    json!({
        "type": "object",
        "description": "What went wrong, by RFC 9457",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string", "description": "A fixed name", "pattern": "^urn:overdue:problem:[a-z-]+$"},
            "title": {"type": "string", "description": "The same for every problem of the type"},
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": {"type": "string", "description": "For people; may change"},
            "field": {"type": "string", "description": "The field, parameter or header at fault"},
        },
    })
}

/// Describe this interface.
#[utoipa::path(
    get, path = "/v1/openapi.json", operation_id = "openapi", tag = "health",
    responses((status = 200, description = "OpenAPI 3.1.", body = serde_json::Value,
        example = json!({"openapi": "3.1.0"}))),
)]
pub(super) async fn document(Extension(Document(bytes)): Extension<Document>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], bytes).into_response()
}
