//! The network seam on the runtime's TCP. Every error names the operation and the address.

use crate::net::{Connection, Listener, Net, NetReader, NetWriter};
use crate::platform::BoxFuture;
use std::future::poll_fn;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

/// The machine's network.
pub(super) struct RealNet {
    runtime: Handle,
}

impl RealNet {
    pub(super) fn new(runtime: Handle) -> RealNet {
        RealNet { runtime }
    }

    /// Runs a future that needs the runtime's driver, wherever it is polled.
    fn on_runtime<'a, T: Send + 'static>(
        &self,
        future: impl Future<Output = io::Result<T>> + Send + 'static,
    ) -> BoxFuture<'a, io::Result<T>> {
        let task = self.runtime.spawn(future);
        Box::pin(async move {
            // Whoever stops waiting stops the attempt as well.
            let task = AbortOnDrop(task);
            task.join().await
        })
    }
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<io::Result<T>>);

impl<T> AbortOnDrop<T> {
    async fn join(mut self) -> io::Result<T> {
        (&mut self.0)
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn named(operation: &str, address: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{operation} {address}: {error}"))
}

fn connection(stream: TcpStream, address: String) -> io::Result<Connection> {
    // Batching is ours: what is handed over is to go out.
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    Ok(Connection {
        reader: Box::new(Reading {
            half: reader,
            address: address.clone(),
        }),
        writer: Box::new(Writing {
            half: Some(writer),
            address,
        }),
    })
}

impl Net for RealNet {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Connection>> {
        let address = address.to_owned();
        self.on_runtime(async move {
            #[expect(clippy::disallowed_methods, reason = "this is the door")]
            let stream = TcpStream::connect(&address).await;
            stream
                .and_then(|stream| connection(stream, address.clone()))
                .map_err(|error| named("connect to", &address, error))
        })
    }

    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        let (address, runtime) = (address.to_owned(), self.runtime.clone());
        self.on_runtime(async move {
            #[expect(clippy::disallowed_methods, reason = "this is the door")]
            let listener = TcpListener::bind(&address).await;
            let listener = listener.map_err(|error| named("listen at", &address, error))?;
            let address = listener.local_addr()?.to_string();
            Ok(Box::new(Listening {
                runtime,
                listener,
                address,
            }) as Box<dyn Listener>)
        })
    }
}

struct Listening {
    runtime: Handle,
    listener: TcpListener,
    address: String,
}

impl Listener for Listening {
    fn address(&self) -> String {
        self.address.clone()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(async move {
            let accepted = poll_fn(|cx| {
                // What is accepted registers with the runtime, whoever polls.
                let _runtime = self.runtime.enter();
                self.listener.poll_accept(cx)
            });
            accepted
                .await
                .and_then(|(stream, from)| connection(stream, from.to_string()))
                .map_err(|error| named("accept at", &self.address, error))
        })
    }
}

struct Reading {
    half: OwnedReadHalf,
    address: String,
}

impl NetReader for Reading {
    fn read(&mut self, max: usize) -> BoxFuture<'_, io::Result<Vec<u8>>> {
        Box::pin(async move {
            let mut bytes = vec![0; max.max(1)];
            let read = self.half.read(&mut bytes).await;
            bytes.truncate(read.map_err(|error| named("read from", &self.address, error))?);
            Ok(bytes)
        })
    }
}

struct Writing {
    /// There until it is dropped.
    half: Option<OwnedWriteHalf>,
    address: String,
}

impl NetWriter for Writing {
    fn write(&mut self, bytes: Vec<u8>) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            let half = self.half.as_mut().ok_or(io::ErrorKind::NotConnected)?;
            let written = half.write_all(&bytes).await;
            written.map_err(|error| named("write to", &self.address, error))
        })
    }

    fn finish(&mut self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            let half = self.half.as_mut().ok_or(io::ErrorKind::NotConnected)?;
            let ended = half.shutdown().await;
            ended.map_err(|error| named("end the stream to", &self.address, error))
        })
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        // It would end the stream in order; a connection that is only dropped is closed instead, with its reading half.
        if let Some(half) = self.half.take() {
            half.forget();
        }
    }
}
