//! The connection of a socket sink, and the lines that may have to be sent again.

use crate::backoff::Backoff;
use rivermark_env::{Env, NetReader, NetWriter, TaskHandle};
use rivermark_types::{Failure, Millis, Result};
use std::collections::VecDeque;
use std::io;
use std::time::Duration;
use tokio::sync::watch;

/// How the other side ended its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Open,
    InOrder,
    Broken,
}

/// A connection, and somebody who hears when the other side ends it. What it sends is not for us.
struct Link {
    writer: Box<dyn NetWriter>,
    ending: watch::Receiver<Ending>,
    listener: TaskHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

async fn listen(mut reader: Box<dyn NetReader>, ending: watch::Sender<Ending>) {
    let end = loop {
        match reader.read(4096).await {
            Ok(bytes) if bytes.is_empty() => break Ending::InOrder,
            Ok(_) => {}
            Err(_) => break Ending::Broken,
        }
    };
    ending.send_replace(end);
}

/// Sends chunks of whole lines, in their order, and keeps them until told that they need not be sent again. A new connection
/// begins with the oldest that is kept.
pub(crate) struct Wire {
    env: Env,
    address: String,
    give_up: Duration,
    link: Option<Link>,
    kept: VecDeque<Vec<u8>>,
    kept_bytes: usize,
    /// How many of them have been handed to this connection.
    sent: usize,
    backoff: Backoff,
}

impl Wire {
    pub(crate) fn new(env: Env, address: String, give_up: Duration) -> Wire {
        Wire {
            env,
            address,
            give_up,
            link: None,
            kept: VecDeque::new(),
            kept_bytes: 0,
            sent: 0,
            backoff: Backoff::new(),
        }
    }

    pub(crate) fn push(&mut self, chunk: Vec<u8>) {
        self.kept_bytes += chunk.len();
        self.kept.push_back(chunk);
    }

    pub(crate) fn kept(&self) -> usize {
        self.kept.len()
    }

    pub(crate) fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// Forgets the oldest chunk, if it has been sent.
    pub(crate) fn forget_oldest(&mut self) -> bool {
        if self.sent == 0 {
            return false;
        }
        if let Some(chunk) = self.kept.pop_front() {
            self.kept_bytes -= chunk.len();
            self.sent -= 1;
        }
        true
    }

    /// Hands everything to a connection that has not been ended by the other side; connects as often as it takes, as long as
    /// the user's patience lasts.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        let until = self.env.now().after(self.give_up);
        loop {
            match self.send_all().await {
                Ok(()) => return Ok(()),
                Err(error) => self.pause(until, &error).await?,
            }
        }
    }

    /// Ends the connection and waits until the other side has ended it too: then it has read everything, and nothing is kept
    /// any more. If the connection breaks instead, everything kept is sent again.
    pub(crate) async fn confirm(&mut self, patience: Duration) -> Result<()> {
        let until = self.env.now().after(self.give_up);
        while !self.kept.is_empty() {
            match self.try_confirm(patience).await {
                Ok(true) => {}
                Ok(false) => {
                    return Err(Failure::external(format!(
                        "{} has not closed the connection {} s after we ended it: confirmed() needs a server that reads to the \
                         end and then closes",
                        self.address,
                        patience.as_secs_f32()
                    )));
                }
                Err(error) => self.pause(until, &error).await?,
            }
        }
        Ok(())
    }

    async fn try_confirm(&mut self, patience: Duration) -> io::Result<bool> {
        self.send_all().await?;
        let Some(mut link) = self.link.take() else {
            return Ok(true);
        };
        self.sent = 0;
        link.writer.finish().await?;
        let ended = tokio::select! {
            biased;
            ended = link.ending.wait_for(|ending| *ending != Ending::Open) => ended.map_or(Ending::Broken, |ending| *ending),
            () = self.env.sleep(patience) => return Ok(false),
        };
        if ended != Ending::InOrder {
            return Err(self.broken());
        }
        self.kept.clear();
        self.kept_bytes = 0;
        Ok(true)
    }

    async fn send_all(&mut self) -> io::Result<()> {
        if self.link.is_none() && self.kept.is_empty() {
            return Ok(());
        }
        let sent = self.try_send_all().await;
        if sent.is_err() {
            (self.link, self.sent) = (None, 0);
        }
        sent
    }

    async fn try_send_all(&mut self) -> io::Result<()> {
        if self.link.is_none() {
            self.link = Some(self.connect().await?);
            self.sent = 0;
        }
        loop {
            let broken = self.broken();
            let Some(link) = &mut self.link else {
                return Err(broken);
            };
            if *link.ending.borrow() != Ending::Open {
                return Err(broken);
            }
            let Some(chunk) = self.kept.get(self.sent) else {
                return Ok(());
            };
            link.writer.write(chunk.clone()).await?;
            self.sent += 1;
            self.backoff.reset();
        }
    }

    async fn connect(&mut self) -> io::Result<Link> {
        let connection = tokio::select! {
            biased;
            connection = self.env.net().connect(&self.address) => connection?,
            () = self.env.sleep(self.give_up) => {
                let what = format!("connect to {}: no answer", self.address);
                return Err(io::Error::new(io::ErrorKind::TimedOut, what));
            }
        };
        let (told, ending) = watch::channel(Ending::Open);
        let name = format!("hear socket {}", self.address);
        Ok(Link {
            writer: connection.writer,
            ending,
            listener: self.env.spawn_io(&name, listen(connection.reader, told)),
        })
    }

    fn broken(&self) -> io::Error {
        let what = format!("{} has ended the connection", self.address);
        io::Error::new(io::ErrorKind::ConnectionReset, what)
    }

    /// Waits before the next attempt, or gives up.
    async fn pause(&mut self, until: Millis, error: &io::Error) -> Result<()> {
        if self.env.now() >= until {
            return Err(Failure::external(format!(
                "{error}: is the server there? (tried again for {} s)",
                self.give_up.as_secs_f32()
            )));
        }
        tracing::warn!(
            "{error}; connecting again, with {} bytes to send again",
            self.kept_bytes
        );
        let wait = self.backoff.wait();
        self.env.sleep(wait).await;
        Ok(())
    }
}
