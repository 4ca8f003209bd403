//! The socket sink against real sockets on loopback.

#![allow(clippy::unwrap_used, reason = "tests")]

mod watched;

use rivermark_connector::conformance::subtask_info;
use rivermark_connector::{Sink, TwoPhaseSink};
use rivermark_env::{Connection, Env, Listener, RealEnv};
use rivermark_format::Lines;
use rivermark_sockets::SocketSink;
use rivermark_sockets::sink::SocketWriter;
use rivermark_types::{CheckpointId, ErrorKind};
use std::time::Duration;
use tokio::sync::mpsc;
use watched::watched;

/// The task of a sink that hears when the other side ends the connection.
const HEARS_THE_END: &str = "hear socket";

fn with_env<T>(test: impl AsyncFnOnce(Env) -> T) -> T {
    let world = RealEnv::start().unwrap();
    world.block_on(test(world.env()))
}

async fn listen(env: &Env) -> (Box<dyn Listener>, String) {
    let listener = env.net().listen("127.0.0.1:0").await.unwrap();
    let address = listener.address();
    (listener, address)
}

async fn writer(env: &Env, sink: &SocketSink<Lines>) -> SocketWriter<Lines> {
    let mut writer = sink.writer(env, &subtask_info(1, 1, 0, 1)).unwrap();
    writer.commit(Vec::new()).await.unwrap();
    writer.abort_unlisted().await.unwrap();
    writer
}

fn rows(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|n| format!("line {n}")).collect()
}

/// Reads a connection until it has brought so many whole lines or its end.
async fn read_lines(connection: &mut Connection, count: usize) -> Vec<String> {
    let mut text = Vec::new();
    while text.iter().filter(|byte| **byte == b'\n').count() < count {
        let bytes = connection.reader.read(1 << 16).await.unwrap();
        if bytes.is_empty() {
            break;
        }
        text.extend(bytes);
    }
    let text = String::from_utf8(text).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn lines_arrive_in_their_order() {
    with_env(async |env| {
        let (mut listener, address) = listen(&env).await;
        let mut writer = writer(&env, &SocketSink::text(&address)).await;
        let read = env.spawn_io("server", async move {
            let mut connection = listener.accept().await.unwrap();
            assert_eq!(read_lines(&mut connection, 5000).await, rows(0..5000));
        });
        writer.write(rows(0..3000)).await.unwrap();
        assert!(writer.prepare(CheckpointId(1)).await.unwrap().is_empty());
        writer.write(rows(3000..5000)).await.unwrap();
        assert_eq!(read.join().await, rivermark_env::TaskExit::Finished);
    });
}

#[test]
fn what_the_last_but_one_checkpoint_does_not_have_is_sent_again() {
    with_env(async |env| {
        let (env, mut ended) = watched(env);
        let (mut listener, address) = listen(&env).await;
        let mut writer = writer(&env, &SocketSink::text(&address)).await;
        let (told, mut lines) = mpsc::unbounded_channel();
        let server = env.spawn_io("server", async move {
            let mut first = listener.accept().await.unwrap();
            told.send(read_lines(&mut first, 9).await).unwrap();
            // Gone without a word to the client's program.
            drop(first);
            let mut second = listener.accept().await.unwrap();
            told.send(read_lines(&mut second, 5).await).unwrap();
            std::future::pending::<()>().await;
        });
        for checkpoint in 0..3 {
            writer
                .write(rows(checkpoint * 3..checkpoint * 3 + 3))
                .await
                .unwrap();
            writer
                .prepare(CheckpointId(u64::from(checkpoint) + 1))
                .await
                .unwrap();
        }
        assert_eq!(lines.recv().await.unwrap(), rows(0..9));
        ended.next(HEARS_THE_END).await;
        writer.write(rows(9..11)).await.unwrap();
        // Checkpoint 2 has lines 0 to 5.
        assert_eq!(lines.recv().await.unwrap(), rows(6..11));
        server.abort();
    });
}

#[test]
fn a_confirmed_checkpoint_has_been_read_to_its_end_by_the_server() {
    with_env(async |env| {
        let (mut listener, address) = listen(&env).await;
        let mut writer = writer(&env, &SocketSink::text(&address).confirmed()).await;
        let (told, mut lines) = mpsc::unbounded_channel();
        let server = env.spawn_io("server", async move {
            // The first connection is lost after a few bytes.
            let mut connection = listener.accept().await.unwrap();
            connection.reader.read(3).await.unwrap();
            drop(connection);
            while let Ok(mut connection) = listener.accept().await {
                let read = read_lines(&mut connection, usize::MAX).await;
                if told.send(read).is_err() {
                    return;
                }
            }
        });
        for checkpoint in 0..4u32 {
            let lines_of_it = rows(checkpoint * 1000..checkpoint * 1000 + 1000);
            writer.write(lines_of_it.clone()).await.unwrap();
            writer
                .prepare(CheckpointId(u64::from(checkpoint) + 1))
                .await
                .unwrap();
            assert_eq!(
                lines.try_recv().unwrap(),
                lines_of_it,
                "read before the checkpoint passes"
            );
        }
        // Nothing new: no connection is needed.
        writer.prepare(CheckpointId(9)).await.unwrap();
        assert!(lines.try_recv().is_err());
        server.abort();
    });
}

#[test]
fn as_much_is_kept_as_may_be() {
    with_env(async |env| {
        let (env, mut ended) = watched(env);
        let (mut listener, address) = listen(&env).await;
        // Five of the lines below.
        let sink = SocketSink::text(&address).with_kept_bytes(40);
        let mut writer = writer(&env, &sink).await;
        let (told, mut lines) = mpsc::unbounded_channel();
        let server = env.spawn_io("server", async move {
            let mut first = listener.accept().await.unwrap();
            read_lines(&mut first, 20).await;
            drop(first);
            let mut second = listener.accept().await.unwrap();
            told.send(read_lines(&mut second, 6).await).unwrap();
            std::future::pending::<()>().await;
        });
        for n in 10..30 {
            writer.write(rows(n..n + 1)).await.unwrap();
        }
        ended.next(HEARS_THE_END).await;
        writer.write(rows(30..31)).await.unwrap();
        assert_eq!(lines.recv().await.unwrap(), rows(25..31));
        server.abort();
    });
}

#[test]
fn no_server_and_a_row_that_is_two_lines_are_clear_errors() {
    with_env(async |env| {
        let (listener, address) = listen(&env).await;
        drop(listener);
        let sink = SocketSink::text(&address).give_up_after(Duration::from_millis(120));
        let failure = writer(&env, &sink).await.write(rows(0..1)).await.unwrap_err();
        assert_eq!(failure.kind, ErrorKind::External);
        for part in [&*address, "refused", "0.12 s"] {
            assert!(failure.to_string().contains(part), "{part} in {failure}");
        }
        let two = vec!["a\nb".to_owned()];
        let failure = writer(&env, &sink).await.write(two).await.unwrap_err();
        assert_eq!(failure.kind, ErrorKind::Data);
    });
}
