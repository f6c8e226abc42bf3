//! The HTTP side: pages, limits and access checks.

use std::net::IpAddr;
use std::sync::Arc;

use axum::error_handling::HandleErrorLayer;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{BoxError, Json, Router};
use coalescent::websocket::JAVASCRIPT;
use coalescent::{Mesh, Peer};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use tower::ServiceBuilder;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower_http::trace::TraceLayer;

use crate::Handle;
use crate::join::{self, Joining};

/// Headers of every response. Pages may load resources of this server only, and inline scripts are
/// disabled. The page shows text of peers as text; these headers make markup in it harmless even if
/// it did not.
const HEADERS: [(HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
];

/// Creates the site. It shares `limit` with the mesh. Above the limit, HTTP requests are rejected,
/// because clients can retry, while frames wait, because they would be lost.
pub(crate) fn router(
    mesh: Mesh,
    metrics: PrometheusHandle,
    hosts: Vec<String>,
    limit: GlobalConcurrencyLimitLayer,
) -> Router {
    let joining = Joining::new(mesh, &hosts);
    let stack = ServiceBuilder::new()
        .layer(TraceLayer::new_for_http())
        .layer(middleware::map_response(headers))
        .layer(HandleErrorLayer::new(overloaded))
        .load_shed()
        .layer(limit)
        .layer(middleware::from_fn_with_state(Arc::new(hosts), known_host));
    Router::new()
        .route("/", get(Html(include_str!("page.html"))))
        .route(
            "/page.js",
            get(file("text/javascript", include_str!("page.js"))),
        )
        .route("/coalescent.js", get(file("text/javascript", JAVASCRIPT)))
        .route("/page.css", get(file("text/css", include_str!("page.css"))))
        .route("/peers", get(peers))
        .route("/metrics", get(async move || metrics.render()))
        .route("/mesh", get(join::join))
        .with_state(joining)
        .layer(stack)
}

type File = ([(HeaderName, &'static str); 1], &'static str);

/// Serves a text that is part of this program.
fn file(kind: &'static str, text: &'static str) -> impl Fn() -> std::future::Ready<File> + Clone {
    move || std::future::ready(([(header::CONTENT_TYPE, kind)], text))
}

/// Lists the connected peers. Addresses are private to the operator. Ids are left out because
/// without TLS they are not proven, so anyone who knows an id could claim it.
async fn peers(State(joining): State<Joining>) -> Json<Vec<Value>> {
    let peers = joining.mesh.peers().list();
    Json(peers.iter().map(describe).collect())
}

fn describe(peer: &Peer) -> Value {
    let stats = peer.stats();
    json!({
        "handle": peer.get::<Handle>().map(|handle| handle.0),
        "kind": if peer.get::<join::Browser>().is_some() { "browser" } else { peer.wire().name() },
        "direction": peer.direction().to_string(),
        "received": stats.received,
        "sent": stats.sent + stats.relayed,
        "dropped": stats.dropped,
        "queued_bytes": peer.queued(),
        "round_trip_seconds": peer.round_trip().map(|time| time.as_secs_f64()),
    })
}

async fn overloaded(_: BoxError) -> (StatusCode, &'static str) {
    (
        StatusCode::SERVICE_UNAVAILABLE,
        "too much to do at once: try again later\n",
    )
}

async fn headers(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

/// Rejects requests for an unknown host name. This prevents DNS rebinding: a foreign page whose
/// name resolves to this machine would otherwise have the same origin as this server, and could
/// read and send messages.
async fn known_host(
    State(hosts): State<Arc<Vec<String>>>,
    request: Request,
    next: Next,
) -> Response {
    let host = request.headers().get(header::HOST);
    if !host.is_some_and(|host| is_known(host, &hosts)) {
        let text =
            "this server has another name: if it is meant to have this one, give it --host NAME\n";
        return (StatusCode::MISDIRECTED_REQUEST, text).into_response();
    }
    next.run(request).await
}

fn is_known(host: &HeaderValue, hosts: &[String]) -> bool {
    let Ok(authority) = Authority::try_from(host.as_bytes()) else {
        return false;
    };
    let name = authority.host();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    address.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
}
