//! The network seam between simulated processes: bytes arrive late and in pieces, connections break with their processes.
//!
//! A side that goes without having read everything resets the connection, as TCP does; one that goes without having ended
//! its stream in order (its process was killed, or it gave up) may: then what the other side has not read yet is lost.

use crate::draw::Draw;
use crate::executor::{Shared, YieldOnce, locked};
use rivermark_env::{BoxFuture, Connection, Listener, Net, NetReader, NetWriter};
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

const LATENCY: (Duration, Duration) = (Duration::from_micros(20), Duration::from_millis(2));
/// How much may be under way in one direction.
const ROOM: (u64, u64) = (16, 4096);
const FIRST_FREE_PORT: u64 = 50_000;

/// Who listens where.
#[derive(Default)]
pub(crate) struct Network {
    listening: BTreeMap<String, Arc<Mutex<Backlog>>>,
    ports: u64,
}

#[derive(Default)]
struct Backlog {
    waiting: VecDeque<Connection>,
    accepting: Option<Waker>,
}

/// The network as one process sees it.
pub(crate) struct SimNet {
    shared: Arc<Shared>,
    draw: Arc<Mutex<Draw>>,
}

impl SimNet {
    pub(crate) fn new(shared: Arc<Shared>, draw: Draw) -> SimNet {
        SimNet {
            shared,
            draw: Arc::new(Mutex::new(draw)),
        }
    }

    fn connect_now(&self, address: &str) -> io::Result<Connection> {
        let backlog = locked(self.shared.network()).listening.get(address).cloned();
        let backlog = backlog.ok_or_else(|| error(ErrorKind::ConnectionRefused, "connect to", address))?;
        let (there, back) = (Direction::new(&self.draw), Direction::new(&self.draw));
        let side = |incoming: &Direction, outgoing: &Direction| {
            let side = Arc::new(Side {
                shared: self.shared.clone(),
                draw: self.draw.clone(),
                incoming: incoming.clone(),
                outgoing: outgoing.clone(),
                address: address.to_owned(),
            });
            Connection {
                reader: Box::new(Reading(side.clone())),
                writer: Box::new(Writing(side)),
            }
        };
        let mut inside = locked(&backlog);
        inside.waiting.push_back(side(&there, &back));
        let accepting = inside.accepting.take();
        drop(inside);
        accepting.into_iter().for_each(Waker::wake);
        self.shared.event(format_args!("connect to {address}"));
        Ok(side(&back, &there))
    }

    fn listen_now(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        let mut network = locked(self.shared.network());
        let address = match address.strip_suffix(":0") {
            Some(host) => {
                network.ports += 1;
                format!("{host}:{}", FIRST_FREE_PORT + network.ports)
            }
            None => address.to_owned(),
        };
        if network.listening.contains_key(&address) {
            return Err(error(ErrorKind::AddrInUse, "listen at", &address));
        }
        let backlog = Arc::<Mutex<Backlog>>::default();
        network.listening.insert(address.clone(), backlog.clone());
        let shared = self.shared.clone();
        Ok(Box::new(Listening {
            shared,
            address,
            backlog,
        }))
    }
}

fn error(kind: ErrorKind, operation: &str, address: &str) -> io::Error {
    io::Error::new(kind, format!("{operation} {address}: {kind}"))
}

async fn latency(shared: &Arc<Shared>, draw: &Mutex<Draw>) {
    let wait = locked(draw).time(LATENCY.0, LATENCY.1);
    shared.sleep(wait).await;
}

impl Net for SimNet {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Connection>> {
        Box::pin(async move {
            latency(&self.shared, &self.draw).await;
            let connected = self.connect_now(address);
            YieldOnce::default().await;
            connected
        })
    }

    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            latency(&self.shared, &self.draw).await;
            self.listen_now(address)
        })
    }
}

struct Listening {
    shared: Arc<Shared>,
    address: String,
    backlog: Arc<Mutex<Backlog>>,
}

impl Listener for Listening {
    fn address(&self) -> String {
        self.address.clone()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(poll_fn(|cx| {
            let mut backlog = locked(&self.backlog);
            match backlog.waiting.pop_front() {
                Some(connection) => Poll::Ready(Ok(connection)),
                None => {
                    backlog.accepting = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        }))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        locked(self.shared.network()).listening.remove(&self.address);
        // Those that nobody accepted are dropped here, outside of every lock.
        let waiting = std::mem::take(&mut locked(&self.backlog).waiting);
        drop(waiting);
    }
}

/// One direction of a connection.
#[derive(Clone)]
struct Direction(Arc<Mutex<Pipe>>);

struct Pipe {
    bytes: VecDeque<u8>,
    room: usize,
    /// Its end has come.
    ended: bool,
    in_order: bool,
    /// What was under way is lost.
    reset: bool,
    reader_gone: bool,
    reading: Option<Waker>,
    writing: Option<Waker>,
}

impl Direction {
    fn new(draw: &Mutex<Draw>) -> Direction {
        Direction(Arc::new(Mutex::new(Pipe {
            bytes: VecDeque::new(),
            room: locked(draw).between(ROOM.0, ROOM.1) as usize,
            ended: false,
            in_order: false,
            reset: false,
            reader_gone: false,
            reading: None,
            writing: None,
        })))
    }

    /// Changes it and wakes both sides.
    fn change(&self, change: impl FnOnce(&mut Pipe)) {
        let mut pipe = locked(&self.0);
        change(&mut pipe);
        let woken = [pipe.reading.take(), pipe.writing.take()];
        drop(pipe);
        woken.into_iter().flatten().for_each(Waker::wake);
    }
}

/// One side of a connection; it goes with the later of its two halves.
struct Side {
    shared: Arc<Shared>,
    draw: Arc<Mutex<Draw>>,
    incoming: Direction,
    outgoing: Direction,
    address: String,
}

impl Drop for Side {
    fn drop(&mut self) {
        let mut unread = false;
        self.incoming.change(|pipe| {
            pipe.reader_gone = true;
            unread = !pipe.bytes.is_empty();
        });
        let resets = unread || locked(&self.draw).coin();
        self.outgoing.change(|pipe| {
            pipe.reset |= unread || resets && !pipe.in_order;
            pipe.ended = true;
        });
    }
}

struct Reading(Arc<Side>);

impl NetReader for Reading {
    fn read(&mut self, max: usize) -> BoxFuture<'_, io::Result<Vec<u8>>> {
        Box::pin(async move {
            let end = &self.0;
            latency(&end.shared, &end.draw).await;
            poll_fn(|cx| {
                let mut pipe = locked(&end.incoming.0);
                if pipe.reset {
                    return Poll::Ready(Err(error(ErrorKind::ConnectionReset, "read from", &end.address)));
                }
                if pipe.bytes.is_empty() && !pipe.ended {
                    pipe.reading = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                let most = pipe.bytes.len().min(max);
                let mut draw = locked(&end.draw);
                let part = match draw.coin() {
                    true => most,
                    false => draw.below(most as u64 + 1) as usize,
                };
                drop(draw);
                let bytes = pipe.bytes.drain(..part.max(most.min(1))).collect();
                let writing = pipe.writing.take();
                drop(pipe);
                writing.into_iter().for_each(Waker::wake);
                Poll::Ready(Ok(bytes))
            })
            .await
        })
    }
}

struct Writing(Arc<Side>);

impl NetWriter for Writing {
    fn write(&mut self, bytes: Vec<u8>) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            let end = &self.0;
            latency(&end.shared, &end.draw).await;
            let mut rest = bytes.as_slice();
            poll_fn(|cx| {
                let mut pipe = locked(&end.outgoing.0);
                if pipe.reader_gone || pipe.reset {
                    return Poll::Ready(Err(error(ErrorKind::BrokenPipe, "write to", &end.address)));
                }
                let part = rest.len().min(pipe.room.saturating_sub(pipe.bytes.len()));
                pipe.bytes.extend(&rest[..part]);
                rest = &rest[part..];
                let reading = pipe.reading.take();
                let done = rest.is_empty();
                if !done {
                    pipe.writing = Some(cx.waker().clone());
                }
                drop(pipe);
                reading.into_iter().for_each(Waker::wake);
                if done { Poll::Ready(Ok(())) } else { Poll::Pending }
            })
            .await?;
            YieldOnce::default().await;
            Ok(())
        })
    }

    fn finish(&mut self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            latency(&self.0.shared, &self.0.draw).await;
            let mut broken = false;
            self.0.outgoing.change(|pipe| {
                broken = pipe.reader_gone || pipe.reset;
                (pipe.ended, pipe.in_order) = (true, true);
            });
            match broken {
                true => Err(error(ErrorKind::BrokenPipe, "end the stream to", &self.0.address)),
                false => Ok(()),
            }
        })
    }
}
