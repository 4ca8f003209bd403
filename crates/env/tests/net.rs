//! The network seam on real sockets.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use rivermark_env::{Env, NetReader, RealEnv};
use std::io::ErrorKind;
use std::sync::Arc;

fn with_env<T>(test: impl AsyncFnOnce(Env) -> T) -> T {
    let real = RealEnv::start().unwrap();
    real.block_on(test(real.env()))
}

async fn read_to_end(reader: &mut dyn NetReader) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let bytes = reader.read(1000).await.unwrap();
        if bytes.is_empty() {
            return all;
        }
        all.extend(bytes);
    }
}

#[test]
fn bytes_go_both_ways_and_each_side_ends_its_own_stream() {
    with_env(async |env| {
        let mut listener = env.net().listen("127.0.0.1:0").await.unwrap();
        let address = listener.address();
        let echo = env.spawn_io("echo", async move {
            let mut client = listener.accept().await.unwrap();
            let all = read_to_end(&mut *client.reader).await;
            client.writer.write(all).await.unwrap();
            client.writer.finish().await.unwrap();
        });
        let mut server = env.net().connect(&address).await.unwrap();
        // More than the buffers of both systems: reading and writing wait for each other.
        let sent: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
        server.writer.write(sent.clone()).await.unwrap();
        server.writer.finish().await.unwrap();
        assert_eq!(read_to_end(&mut *server.reader).await, sent);
        echo.join().await;
    });
}

#[test]
fn errors_name_the_operation_and_the_address() {
    with_env(async |env| {
        let listener = env.net().listen("127.0.0.1:0").await.unwrap();
        let address = listener.address();
        let taken = env.net().listen(&address).await.err().unwrap();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        assert!(
            taken.to_string().contains(&format!("listen at {address}")),
            "{taken}"
        );
        drop(listener);
        let refused = env.net().connect(&address).await.err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        assert!(
            refused.to_string().contains(&format!("connect to {address}")),
            "{refused}"
        );
    });
}

#[test]
fn a_connection_ends_with_whoever_held_it() {
    with_env(async |env| {
        let mut listener = env.net().listen("127.0.0.1:0").await.unwrap();
        let address: Arc<str> = listener.address().into();
        let client = env.clone();
        let held = env.spawn_io("client", async move {
            let mut connection = client.net().connect(&address).await.unwrap();
            connection.writer.write(b"x".to_vec()).await.unwrap();
            std::future::pending::<()>().await;
        });
        let mut connection = listener.accept().await.unwrap();
        assert_eq!(connection.reader.read(10).await.unwrap(), b"x");
        held.abort();
        assert_eq!(connection.reader.read(10).await.unwrap(), b"");
    });
}
