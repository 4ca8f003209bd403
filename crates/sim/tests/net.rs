//! The simulated network keeps what the seam promises, and breaks what it may break.
#![allow(clippy::unwrap_used, reason = "a test may")]

use rivermark_env::Env;
use rivermark_sim::{Limits, RunEnd, SimWorld};
use std::cell::RefCell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

const ADDRESS: &str = "feed:9000";

/// Accepts one connection and reads it to its end; what it read, and how it ended.
async fn receive(env: Env, heard: Rc<RefCell<(Vec<u8>, Option<ErrorKind>)>>) {
    let mut listener = env.net().listen(ADDRESS).await.unwrap();
    let mut connection = listener.accept().await.unwrap();
    loop {
        match connection.reader.read(64).await {
            Ok(bytes) if bytes.is_empty() => return,
            Ok(bytes) => heard.borrow_mut().0.extend(bytes),
            Err(error) => {
                heard.borrow_mut().1 = Some(error.kind());
                return;
            }
        }
    }
}

async fn connect(env: &Env) -> rivermark_env::Connection {
    loop {
        match env.net().connect(ADDRESS).await {
            Ok(connection) => return connection,
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused),
        }
        env.sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn an_ended_stream_arrives_whole_and_a_killed_one_in_part() {
    let (mut reset, mut cut) = (0, 0);
    for seed in 0..200 {
        let mut world = SimWorld::new(seed);
        let machine = world.machine("m");
        let heard = Rc::new(RefCell::new((Vec::new(), None)));
        let here = heard.clone();
        let receiver = world.start(&machine, "receiver", move |env| receive(env, here));
        let sent: Vec<u8> = (0..5_000u32).map(|n| n as u8).collect();
        let (bytes, kill) = (sent.clone(), seed % 2 == 1);
        let sender = world.start(&machine, "sender", move |env| async move {
            let mut connection = connect(&env).await;
            connection.writer.write(bytes).await.unwrap();
            connection.writer.finish().await.unwrap();
            // Holds it open until the other side is through.
            let _ = connection.reader.read(1).await;
        });
        if kill {
            let steps = world.draw("kill").between(20, 400);
            let limits = Limits {
                steps,
                ..Limits::default()
            };
            world.run_process(receiver, limits);
            world.kill(sender);
        }
        let end = world.run_process(receiver, Limits::default());
        let stuck = kill && matches!(end, RunEnd::Deadlock(_));
        assert!(stuck || end == RunEnd::Stopped, "seed {seed}: {end:?}");
        let (found, error) = &*heard.borrow();
        assert!(sent.starts_with(found), "seed {seed}");
        if !kill {
            assert_eq!((found, *error), (&sent, None), "seed {seed}");
        }
        reset += u32::from(error.is_some());
        cut += u32::from(found.len() < sent.len());
    }
    assert!(reset > 5 && cut > reset, "{reset} reset, {cut} cut");
}

#[test]
fn writing_waits_for_room_and_fails_when_nobody_reads_any_more() {
    let mut world = SimWorld::new(1);
    let machine = world.machine("m");
    let listener = world.start(&machine, "listener", |env| async move {
        let mut listener = env.net().listen(ADDRESS).await.unwrap();
        let _connection = listener.accept().await.unwrap();
        env.sleep(Duration::from_secs(1)).await;
    });
    let failed = Rc::new(RefCell::new(None));
    let told = failed.clone();
    let sender = world.start(&machine, "sender", move |env| async move {
        let mut connection = connect(&env).await;
        let error = connection.writer.write(vec![0; 1 << 20]).await.err();
        *told.borrow_mut() = error.map(|error| (error.kind(), env.now()));
    });
    world.run_process(sender, Limits::default());
    assert!(!world.is_running(listener));
    assert!(world.now() >= Duration::from_secs(1));
    assert_eq!(failed.borrow().map(|(kind, _)| kind), Some(ErrorKind::BrokenPipe));
}
