//! The web pages over a folder of results: campaigns over time, nights, runs, histories, and a storm as it happens.
//!
//! Everything is read from files inside the results' folder; nothing is written. `inside` what may be read · `pages` the
//! overview, listings and files · `history` one run's history, filtered · `live` a running storm · `tail` its growing files.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a shell: sockets and files

mod history;
mod inside;
mod live;
mod pages;
mod tail;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use inside::Inside;

/// The icon of every page: browsers ask for it unasked, also beside a bare picture or text file.
const ICON: &str = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'>\
    <rect width='16' height='16' rx='3' fill='#1f4e79'/>\
    <path d='M9.5 2 4 9h3.5L6 14l6-7.5H8.5z' fill='#ffd24d'/></svg>";

/// What every handler knows.
#[derive(Clone)]
struct Site {
    results: Arc<Inside>,
    /// The host names and addresses under which the pages may be asked for.
    hosts: Arc<Vec<String>>,
}

/// Serves the results on an address until the process ends. `listening` is told the address.
pub async fn serve(
    results: &Path,
    bind: SocketAddr,
    listening: impl FnOnce(SocketAddr),
) -> anyhow::Result<()> {
    let results = Inside::new(results).with_context(|| format!("there is no {}", results.display()))?;
    let listener = TcpListener::bind(bind).await.with_context(|| format!("cannot listen on {bind}"))?;
    let address = listener.local_addr()?;
    listening(address);
    axum::serve(listener, router(results, address)).await.context("the server ended")
}

/// All pages.
fn router(results: Inside, address: SocketAddr) -> Router {
    let port = address.port();
    let hosts = [address.ip().to_string(), "127.0.0.1".into(), "localhost".into(), "[::1]".into()];
    let hosts = hosts.iter().flat_map(|host| [host.clone(), format!("{host}:{port}")]).collect();
    let site = Site { results: Arc::new(results), hosts: Arc::new(hosts) };
    Router::new()
        .route("/", get(pages::home))
        .route("/favicon.ico", get(([(header::CONTENT_TYPE, "image/svg+xml")], ICON)))
        .route("/files/", get(pages::root))
        .route("/files/{*path}", get(pages::file))
        .route("/run/{*path}", get(pages::run))
        .route("/compare", get(pages::compare))
        .route("/history/{*path}", get(history::page))
        .route("/live", get(live::page))
        .route("/live/events", get(live::events))
        .layer(middleware::from_fn_with_state(site.clone(), guard))
        .with_state(site)
}

/// Pages are for people at this machine: another site's page that points its name here gets nothing, and none of ours loads
/// anything from elsewhere.
async fn guard(State(site): State<Site>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !site.hosts.iter().any(|known| known == host) {
        return (StatusCode::MISDIRECTED_REQUEST, "this host is not served here").into_response();
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src 'self' data:; \
                  connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// Why a page cannot be shown.
enum Trouble {
    /// It does not exist, or may not be read: both look the same.
    NotFound,
    Asked(String),
    Broken(anyhow::Error),
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        match self {
            Self::NotFound => (StatusCode::NOT_FOUND, "not found\n").into_response(),
            Self::Asked(what) => (StatusCode::BAD_REQUEST, format!("{what}\n")).into_response(),
            Self::Broken(error) => {
                tracing::warn!("a page could not be made: {error:#}");
                (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")).into_response()
            }
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Broken(error.into())
    }
}

/// Does work that reads files on a thread for that.
async fn reading<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Trouble> + Send + 'static,
) -> Result<T, Trouble> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Trouble::Broken(error.into()))?
}
