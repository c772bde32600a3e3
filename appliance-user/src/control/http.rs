//! The two HTTP servers: `/health` for the load balancer, metrics and the API for the operator.
//!
//! Both run on one runtime in a thread of its own, apart from the workers. Everything is bounded: connections, the time to
//! send a request's head, the time a connection lives, and how many expensive answers are made at once. `/health` reads
//! one verdict and never waits for anything.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::sync::{Semaphore, oneshot};

use super::bounded::Bounded;
use super::clock;
use super::health::{Board, Health};
use super::priority;

/// The head of a request, the gap before the next one, and each step of an answer take no longer.
const STEP: Duration = Duration::from_secs(5);
/// The same on the health port: a prober sends its few bytes at once, and idle connections must not keep it waiting.
const HEALTH_STEP: Duration = Duration::from_secs(1);
/// Nothing here reads a body; what is sent all the same is bounded.
const BODY: usize = 1024;
/// Expensive answers that are made at once; the next is told to come again.
const ANSWERS: usize = 2;
/// How long answers that are being made are waited for at the end.
const FAREWELL: Duration = Duration::from_secs(1);

/// A server could not be started.
#[derive(Debug, Error)]
pub enum HttpError {
    /// The address is taken, not this machine's, or not allowed.
    #[error("cannot serve {what} on {address}: {source}; choose another address with --{flag}")]
    Bind {
        /// What was to be served.
        what: &'static str,
        /// The flag that moves it.
        flag: &'static str,
        /// The address asked for.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No thread or no runtime.
    #[error("cannot start the HTTP server: {0}")]
    Thread(io::Error),
}

/// What the operator's server answers with. Called on a blocking thread; each call must end in bounded time.
pub trait Operator: Send + Sync + 'static {
    /// All metrics, in the text format of OpenMetrics.
    fn metrics(&self) -> String;
    /// The streams of every worker, each as it was at a moment of its own within the answer's time: no worker stops for it.
    /// One JSON object, as text.
    fn streams(&self) -> Vec<u8>;
    /// The appliance in one object.
    fn status(&self) -> Value;
}

/// Both ports, bound but not yet served: so that a taken port is known before anything else is touched.
#[derive(Debug)]
pub struct Ports {
    health: StdListener,
    admin: StdListener,
}

impl Ports {
    /// Binds both ports.
    ///
    /// # Errors
    /// [`HttpError::Bind`], naming the one that failed.
    pub fn bind(health: SocketAddr, admin: SocketAddr) -> Result<Self, HttpError> {
        Ok(Ports {
            health: bind("health", "health", health)?,
            admin: bind("metrics and the API", "admin", admin)?,
        })
    }

    /// The addresses that were bound: health, admin.
    ///
    /// # Errors
    /// If the kernel cannot tell.
    pub fn addresses(&self) -> io::Result<(SocketAddr, SocketAddr)> {
        Ok((self.health.local_addr()?, self.admin.local_addr()?))
    }
}

fn bind(what: &'static str, flag: &'static str, address: SocketAddr) -> Result<StdListener, HttpError> {
    let listener = StdListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|source| HttpError::Bind {
        what,
        flag,
        address,
        source,
    })
}

/// The running servers.
#[derive(Debug)]
pub struct Servers {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Servers {
    /// Serves both ports from now on.
    ///
    /// # Errors
    /// [`HttpError::Thread`].
    pub fn start(ports: Ports, board: Arc<Board>, operator: Arc<dyn Operator>) -> Result<Self, HttpError> {
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(ANSWERS)
            .build()
            .map_err(HttpError::Thread)?;
        let thread = std::thread::Builder::new()
            .name("tg-http".to_owned())
            .spawn(move || {
                // Those that make answers are started from here and give way with it.
                priority::give_way();
                let served = runtime.block_on(serve(ports, board, operator, stopped));
                runtime.shutdown_timeout(FAREWELL);
                if let Err(error) = served {
                    tracing::error!(%error, "the HTTP server ended");
                }
            })
            .map_err(HttpError::Thread)?;
        Ok(Servers { stop, thread })
    }

    /// Closes both ports and every connection, and ends.
    pub fn stop(self) {
        // An error means that the server has ended by itself, which it logged.
        let _ = self.stop.send(());
        if self.thread.join().is_err() {
            tracing::error!("the HTTP thread failed");
        }
    }
}

async fn serve(
    ports: Ports,
    board: Arc<Board>,
    operator: Arc<dyn Operator>,
    stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let health = axum::serve(Bounded::new(ports.health, HEALTH_STEP)?, health_router(board));
    let admin = axum::serve(Bounded::new(ports.admin, STEP)?, admin_router(operator));
    tokio::select! {
        ended = async { tokio::try_join!(health.into_future(), admin.into_future()) } => ended.map(|_| ()),
        _ = stopped => Ok(()),
    }
}

fn health_router(board: Arc<Board>) -> Router {
    Router::new()
        .route("/health", get(health))
        .layer(DefaultBodyLimit::max(BODY))
        .with_state(board)
}

async fn health(State(board): State<Arc<Board>>) -> Response {
    let (status, body) = health_answer(&board.read(clock::monotonic_nanos()));
    (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

fn health_answer(health: &Health) -> (StatusCode, Value) {
    match health {
        Health::Ok => (StatusCode::OK, json!({"status": "ok"})),
        Health::Unsound(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            json!({"status": health.status(), "reason": reason}),
        ),
        Health::Draining => (
            StatusCode::SERVICE_UNAVAILABLE,
            json!({"status": health.status(), "reason": "the appliance is stopping"}),
        ),
    }
}

#[derive(Clone)]
struct AdminState {
    operator: Arc<dyn Operator>,
    answers: Arc<Semaphore>,
}

fn admin_router(operator: Arc<dyn Operator>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/api/v1/streams", get(streams))
        .route("/api/v1/status", get(status))
        .layer(DefaultBodyLimit::max(BODY))
        .with_state(AdminState {
            operator,
            answers: Arc::new(Semaphore::new(ANSWERS)),
        })
}

async fn metrics(State(state): State<AdminState>) -> Response {
    const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match answer(state, |operator| operator.metrics()).await {
        Ok(text) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

async fn streams(State(state): State<AdminState>) -> Response {
    const JSON: &str = "application/json";
    match answer(state, |operator| operator.streams()).await {
        Ok(text) => ([(header::CONTENT_TYPE, JSON)], text).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

async fn status(State(state): State<AdminState>) -> Response {
    answer(state, |operator| operator.status())
        .await
        .map(Json)
        .into_response()
}

/// Makes an answer beside the server's thread, or says that too many are being made.
async fn answer<T: Send + 'static>(
    state: AdminState,
    make: impl FnOnce(&dyn Operator) -> T + Send + 'static,
) -> Result<T, (StatusCode, &'static str)> {
    let Ok(permit) = state.answers.try_acquire_owned() else {
        return Err((StatusCode::SERVICE_UNAVAILABLE, "busy with other requests, ask again\n"));
    };
    let made = tokio::task::spawn_blocking(move || {
        let made = make(&*state.operator);
        drop(permit);
        made
    });
    made.await
        .map_err(|_| (StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be made\n"))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream as Client;

    use super::*;
    use crate::control::bounded::CONNECTIONS;

    struct Fixed;

    impl Operator for Fixed {
        fn metrics(&self) -> String {
            "# EOF\n".to_owned()
        }
        fn streams(&self) -> Vec<u8> {
            b"[]".to_vec()
        }
        fn status(&self) -> Value {
            json!({"interface": "if0"})
        }
    }

    fn any_port() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    fn ask(address: SocketAddr, request: &str) -> String {
        let mut client = Client::connect(address).expect("connects");
        client.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        client.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("answered");
        answer
    }

    fn fetch(address: SocketAddr, path: &str) -> String {
        ask(
            address,
            &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        )
    }

    fn start() -> (Arc<Board>, Servers, SocketAddr, SocketAddr) {
        let board = Arc::new(Board::new(clock::monotonic_nanos()));
        let ports = Ports::bind(any_port(), any_port()).expect("loopback has ports");
        let (health, admin) = ports.addresses().expect("bound");
        let servers = Servers::start(ports, Arc::clone(&board), Arc::new(Fixed)).expect("started");
        (board, servers, health, admin)
    }

    #[test]
    fn health_follows_the_board_and_serves_nothing_else() {
        let (board, servers, health, _) = start();
        let said = fetch(health, "/health");
        assert!(
            said.starts_with("HTTP/1.1 503") && said.contains(r#""status":"unsound""#),
            "{said}"
        );
        board.publish(Health::Ok, clock::monotonic_nanos());
        let said = fetch(health, "/health");
        assert!(
            said.starts_with("HTTP/1.1 200") && said.ends_with(r#"{"status":"ok"}"#),
            "{said}"
        );
        board.publish(Health::Draining, clock::monotonic_nanos());
        let said = fetch(health, "/health");
        assert!(said.starts_with("HTTP/1.1 503") && said.contains("draining"), "{said}");
        for path in ["/", "/metrics", "/api/v1/streams"] {
            assert!(fetch(health, path).starts_with("HTTP/1.1 404"), "{path}");
        }
        servers.stop();
        assert!(
            Client::connect(health).is_err(),
            "a dead appliance refuses the connection"
        );
    }

    #[test]
    fn the_operator_gets_metrics_and_json_and_changes_nothing_by_post() {
        let (_, servers, _, admin) = start();
        let said = fetch(admin, "/metrics");
        assert!(said.contains("openmetrics-text") && said.ends_with("# EOF\n"), "{said}");
        let said = fetch(admin, "/api/v1/streams");
        assert!(
            said.contains("content-type: application/json") && said.ends_with("[]"),
            "{said}"
        );
        assert!(fetch(admin, "/api/v1/status").contains("if0"));
        assert!(fetch(admin, "/health").starts_with("HTTP/1.1 404"));
        let post = "POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        assert!(ask(admin, post).starts_with("HTTP/1.1 405"));
        servers.stop();
    }

    #[test]
    fn a_head_that_never_ends_is_cut_off_and_others_are_served_meanwhile() {
        let (_, servers, health, _) = start();
        let begun = std::time::Instant::now();
        let mut slow = Client::connect(health).expect("connects");
        slow.write_all(b"GET /health HTTP/1.1\r\nHost:").expect("sent");
        slow.set_read_timeout(Some(HEALTH_STEP * 3)).expect("set");
        assert!(fetch(health, "/health").starts_with("HTTP/1.1 503"));
        let mut rest = Vec::new();
        let _ = slow.read_to_end(&mut rest);
        assert!(
            begun.elapsed() >= HEALTH_STEP - Duration::from_millis(100),
            "cut off early"
        );
        assert!(begun.elapsed() < HEALTH_STEP * 2, "not cut off");
        servers.stop();
    }

    #[test]
    fn idle_connections_do_not_keep_a_prober_waiting() {
        let (_, servers, health, _) = start();
        let idle: Vec<Client> = (0..400).map_while(|_| Client::connect(health).ok()).collect();
        assert!(idle.len() > CONNECTIONS, "{} connections", idle.len());
        let begun = std::time::Instant::now();
        assert!(fetch(health, "/health").starts_with("HTTP/1.1 503"));
        // The load balancer's own patience is five seconds.
        assert!(begun.elapsed() < HEALTH_STEP * 4, "{:?}", begun.elapsed());
        servers.stop();
    }

    #[test]
    fn a_taken_port_is_named_with_its_flag() {
        let taken = StdListener::bind(any_port()).expect("bound");
        let address = taken.local_addr().expect("bound");
        let error = Ports::bind(any_port(), address).expect_err("taken");
        let said = error.to_string();
        assert!(
            said.contains(&address.to_string()) && said.contains("--admin"),
            "{said}"
        );
    }
}
