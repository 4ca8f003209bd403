//! The metrics endpoint: answers `GET /metrics` on loopback, a plain HTTP/1.1 responder that closes after each answer.
//!
//! Nothing else is served, nothing is read but a request's first line, and nobody beyond this machine is answered: there is
//! neither encryption nor a password here. Non-goals: keeping connections, any other path.

use crate::metrics::Scraped;
use crate::metrics::prometheus::CONTENT_TYPE;
use rivermark_config::ReporterConfig;
use rivermark_env::{Connection, Env, Listener};
use rivermark_types::{Failure, Result};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A longer request is not read to its end.
const LONGEST_REQUEST: usize = 8 << 10;
/// So long a client may take for its request and for reading the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// More clients at once are turned away.
const MOST_CLIENTS: usize = 16;

/// Opens the port: the first free one of the range. Fails for an address that is not this machine's own.
pub(crate) async fn listen(env: &Env, reporter: &ReporterConfig) -> Result<Box<dyn Listener>> {
    let key = |last: &str| format!("metrics.reporter.{}.{last}", reporter.name);
    let host = match reporter.host.as_str() {
        "localhost" => "127.0.0.1",
        host => host,
    };
    let is_loopback = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if !is_loopback {
        return Err(Failure::invalid(format!(
            "{} is {host:?}, but metrics are served without encryption or password, and so to this machine only: set \
             127.0.0.1 (or leave it unset), and let a proxy or an agent on this machine pass them on",
            key("host")
        )));
    }
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    let mut last = None;
    for port in reporter.ports.clone() {
        match env.net().listen(&format!("{host}:{port}")).await {
            Ok(listener) => return Ok(listener),
            Err(error) => last = Some(error),
        }
    }
    let why = last.map_or("the range is empty".to_owned(), |error| error.to_string());
    Err(Failure::invalid(format!(
        "no port of {} is free for the metrics: {why}: set another one or a range such as 9249-9260",
        key("port")
    )))
}

/// Answers until it is aborted.
pub(crate) async fn serve(env: Env, mut listener: Box<dyn Listener>, scraped: Arc<Scraped>) {
    let clients = Arc::new(AtomicUsize::new(0));
    loop {
        let connection = match listener.accept().await {
            Ok(connection) => connection,
            Err(error) => {
                // Such as too many open files: it may pass.
                tracing::debug!(%error, "the metrics endpoint");
                env.sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if clients.fetch_add(1, Ordering::AcqRel) >= MOST_CLIENTS {
            clients.fetch_sub(1, Ordering::AcqRel);
            continue;
        }
        let (scraped, clients, patience) = (scraped.clone(), clients.clone(), env.sleep(PATIENCE));
        env.spawn_io("metrics client", async move {
            tokio::select! {
                biased;
                answered = answer(connection, &scraped) => {
                    if let Err(error) = answered {
                        tracing::debug!(%error, "a client of the metrics endpoint");
                    }
                }
                () = patience => {}
            }
            clients.fetch_sub(1, Ordering::AcqRel);
        });
    }
}

async fn answer(mut connection: Connection, scraped: &Scraped) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < LONGEST_REQUEST {
        let more = connection.reader.read(LONGEST_REQUEST).await?;
        if more.is_empty() {
            break;
        }
        request.extend(more);
    }
    let response = respond(&String::from_utf8_lossy(&request), scraped);
    connection.writer.write(response.into_bytes()).await?;
    connection.writer.finish().await
}

/// The whole answer to a request.
fn respond(request: &str, scraped: &Scraped) -> String {
    let mut words = request.lines().next().unwrap_or_default().split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let (status, body) = match (method, path) {
        ("GET", "/metrics" | "/") => ("200 OK", scraped.text()),
        ("GET", _) => ("404 Not Found", "there is only /metrics\n".to_owned()),
        ("", _) => ("400 Bad Request", String::new()),
        _ => ("405 Method Not Allowed", "only GET is answered\n".to_owned()),
    };
    let content_type = match status {
        "200 OK" => CONTENT_TYPE,
        _ => "text/plain; charset=utf-8",
    };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
