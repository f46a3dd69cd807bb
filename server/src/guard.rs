//! What every request passes: who asks, how much it brings, how long it takes, what is noted of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use subtle::ConstantTimeEq;

use crate::Shared;
use crate::metrics::OfRequest;
use crate::refusal::Refusal;

/// Lets a request through, or says why not.
pub(crate) async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let mut response = match allowed(&shared, &route, &request) {
        Err(refusal) => refusal.into_response(),
        Ok(()) => match bodies(&shared, &request) {
            Err(refusal) => refusal.into_response(),
            Ok(_held) => {
                let limit = shared.options.timeout;
                let answer = tokio::time::timeout(limit, next.run(request)).await;
                answer.unwrap_or_else(|_| {
                    let message = format!("no answer within {} seconds", limit.as_secs_f64());
                    Refusal::new(StatusCode::REQUEST_TIMEOUT, message).into_response()
                })
            }
        },
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let status = response.status().as_u16();
    shared.metrics.requests.get_or_create(&OfRequest { route: route.clone(), status }).inc();
    let milliseconds = begun.elapsed().as_secs_f64() * 1e3;
    (shared.log)(&json!({
        "event": "request", "method": method.as_str(), "route": route, "status": status,
        "milliseconds": (milliseconds * 1e3).round() / 1e3,
    }));
    response
}

/// Routes that nobody needs a token for: whether the server lives, and the page, which asks for one itself.
const OPEN: [&str; 5] = ["/v2/health/live", "/v2/health/ready", "/", "/page.js", "/style.css"];

fn allowed(shared: &Shared, route: &str, request: &Request) -> Result<(), Refusal> {
    let headers = request.headers();
    match &shared.options.token {
        Some(_) if OPEN.contains(&route) && is_read(request.method()) => Ok(()),
        Some(token) => match bool::from(bearer(headers).ct_eq(token.as_bytes())) {
            true => Ok(()),
            false => Err(Refusal::new(
                StatusCode::UNAUTHORIZED,
                "a token is needed: send it as 'Authorization: Bearer TOKEN'",
            )),
        },
        // A page of another site can make a browser here ask for a name that leads to this machine.
        None if !shared.options.without_token && !is_local(headers) => Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "the request is for another host; without a token only this machine is answered, as localhost or by its \
             address",
        )),
        None => Ok(()),
    }
}

/// Whether nothing is sent but the head of a request.
fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// The token that is given, empty for none; the case of `Bearer` does not count (RFC 9110, section 11.1).
fn bearer(headers: &HeaderMap) -> &[u8] {
    let given = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    match given.split_first_chunk::<7>() {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"Bearer ") => token.trim_ascii_start(),
        _ => &[],
    }
}

/// Whether the host that is asked for is `localhost` or an address.
fn is_local(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return true };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// Takes the bytes of the body from what may be at hand; one that does not say how long it is counts as the
/// longest.
fn bodies(shared: &Shared, request: &Request) -> Result<Option<tokio::sync::OwnedSemaphorePermit>, Refusal> {
    if is_read(request.method()) {
        return Ok(None);
    }
    let most = shared.options.max_body;
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok()).unwrap_or(most);
    if length > most {
        return Err(too_long(most));
    }
    // Numbers take up to four times the bytes of their digits.
    let kibibytes = (4 * length).min(shared.options.max_bodies).div_ceil(1024);
    let kibibytes = u32::try_from(kibibytes).unwrap_or(u32::MAX);
    let permit = Arc::clone(&shared.bodies).try_acquire_many_owned(kibibytes);
    permit.map(Some).map_err(|_| Refusal::busy("too many bytes are being received"))
}

/// A body beyond the limit.
pub(crate) fn too_long(most: usize) -> Refusal {
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is longer than {most} bytes"))
}
