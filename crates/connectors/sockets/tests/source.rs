//! The socket source against real sockets on loopback.

#![allow(clippy::unwrap_used, reason = "tests")]

mod watched;

use rivermark_connector::conformance::subtask_info;
use rivermark_connector::{ReadPoll, ReadRows, ReaderCx, Source, SplitEnumerator, SplitIndex, SplitReader};
use rivermark_env::{Connection, Env, Listener, RealEnv};
use rivermark_format::{Decode, FormatError, Lines};
use rivermark_runtime::SlotWaker;
use rivermark_sockets::reader::SocketReader;
use rivermark_sockets::{SocketSource, SocketSplit};
use rivermark_types::{ErrorKind, Failure};
use std::fs;
use std::path::Path;
use watched::watched;

const SPLIT: SplitIndex = SplitIndex(7);

/// One attempt of a source's reader.
struct Attempt<F: Decode> {
    reader: SocketReader<F>,
    waker: SlotWaker,
}

impl<F: Decode> Attempt<F> {
    fn begin(env: &Env, source: &SocketSource<F>, attempt: u32, position: u64) -> Attempt<F> {
        let waker = SlotWaker::default();
        let cx = ReaderCx {
            env: env.clone(),
            info: subtask_info(1, attempt, 0, 1),
            waker: waker.clone(),
        };
        let mut reader = source.reader(cx).unwrap();
        let address = "elsewhere".to_owned();
        reader.assign(SPLIT, SocketSplit { address }, position).unwrap();
        Attempt { reader, waker }
    }

    /// The next rows with the position behind them; `None` at the end.
    async fn next(&mut self, most: usize) -> Result<Option<(Vec<F::Row>, u64)>, Failure> {
        let mut out = ReadRows::default();
        loop {
            out.clear();
            match self.reader.next(most, &mut out)? {
                ReadPoll::Pending => self.waker.woken().await,
                ReadPoll::Done(SPLIT) => return Ok(None),
                ReadPoll::Rows(SPLIT) => {
                    if let Some(bad) = out.undecodable().next() {
                        return Err(Failure::data(bad.error.clone()));
                    }
                    return Ok(Some((out.take_values(), out.resume())));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Reads until it has so many rows.
    async fn rows(&mut self, count: usize) -> Vec<F::Row> {
        let mut rows = Vec::new();
        while rows.len() < count {
            rows.extend(self.next(count - rows.len()).await.unwrap().unwrap().0);
        }
        rows
    }
}

async fn listen(env: &Env) -> (Box<dyn Listener>, String) {
    let listener = env.net().listen("127.0.0.1:0").await.unwrap();
    let address = listener.address();
    (listener, address)
}

async fn accept_and_send(listener: &mut dyn Listener, text: &[u8]) -> Connection {
    let mut connection = listener.accept().await.unwrap();
    connection.writer.write(text.to_vec()).await.unwrap();
    connection
}

fn with_env<T>(test: impl AsyncFnOnce(Env) -> T) -> T {
    let world = RealEnv::start().unwrap();
    world.block_on(test(world.env()))
}

/// All bytes in a journal's files.
fn on_disk(dir: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        bytes.extend(fs::read(entry.unwrap().path()).unwrap());
    }
    bytes
}

fn contains(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|window| window == part.as_bytes())
}

#[test]
fn it_reads_to_the_end_of_the_stream_at_any_slice() {
    with_env(async |env| {
        for most in [1, 3, 1000] {
            let (mut listener, address) = listen(&env).await;
            let source = SocketSource::lines(&address).at_most_once();
            let mut attempt = Attempt::begin(&env, &source, 1, 0);
            let text = "one\r\ntwo\n\nfour\nno line end";
            let mut connection = accept_and_send(&mut *listener, text.as_bytes()).await;
            connection.writer.finish().await.unwrap();
            assert_eq!(attempt.rows(5).await, ["one", "two", "", "four", "no line end"]);
            assert_eq!(attempt.next(most).await.unwrap(), None);
        }
    });
}

/// Text whose user made a mistake.
#[derive(Clone)]
struct Careless;

impl Decode for Careless {
    type Row = <Lines as Decode>::Row;
    type Decoder = <Lines as Decode>::Decoder;
    fn record_len(&self, bytes: &[u8], _: usize) -> Option<usize> {
        assert!(bytes.is_empty(), "a bug in record_len");
        None
    }
    fn decoder(&self, header: Option<&[u8]>) -> Result<Self::Decoder, FormatError> {
        Lines.decoder(header)
    }
}

#[test]
fn a_format_that_panics_fails_the_source_and_does_not_leave_it_waiting() {
    with_env(async |env| {
        let (mut listener, address) = listen(&env).await;
        let source = SocketSource::new(&address, Careless).at_most_once();
        let mut attempt = Attempt::begin(&env, &source, 1, 0);
        let _connection = accept_and_send(&mut *listener, b"one\n").await;
        let failure = attempt.next(1).await.unwrap_err();
        assert_eq!(failure.kind, ErrorKind::Bug, "{failure}");
    });
}

#[test]
fn json_lines_are_rows_and_what_is_no_row_is_named_with_its_place() {
    with_env(async |env| {
        let (mut listener, address) = listen(&env).await;
        let source: SocketSource<rivermark_format::JsonLines<(u32, String)>> = SocketSource::json(&address);
        let mut attempt = Attempt::begin(&env, &source, 1, 100);
        let text = b"[1,\"a\"]\n\n[2,\"b\"]\n[3]\n";
        let _connection = accept_and_send(&mut *listener, text).await;
        assert_eq!(attempt.rows(2).await, [(1, "a".to_owned()), (2, "b".to_owned())]);
        let failure = attempt.next(9).await.unwrap_err();
        assert_eq!(failure.kind, ErrorKind::Data);
        assert!(
            failure
                .message
                .contains(&format!("socket {address}, byte 117 of the stream")),
            "{failure}"
        );

        let (mut listener, address) = listen(&env).await;
        let mut attempt = Attempt::begin(&env, &SocketSource::lines(&address), 1, 0);
        let _connection = accept_and_send(&mut *listener, b"fine\nnot \xff fine\n").await;
        assert_eq!(attempt.rows(1).await, ["fine"]);
        let failure = attempt.next(9).await.unwrap_err();
        assert!(
            failure.message.contains("byte 5 of the stream") && failure.message.contains("UTF-8"),
            "{failure}"
        );
    });
}

#[test]
fn no_server_is_one_clear_line_and_a_format_with_a_header_is_refused() {
    with_env(async |env| {
        let (listener, address) = listen(&env).await;
        drop(listener);
        let mut attempt = Attempt::begin(&env, &SocketSource::lines(&address), 1, 0);
        let failure = attempt.next(9).await.unwrap_err();
        assert_eq!(failure.kind, ErrorKind::External);
        for part in [&*address, "refused", "reconnecting()"] {
            assert!(failure.to_string().contains(part), "{part} in {failure}");
        }
        let csv: SocketSource<rivermark_format::Csv<(u32, u32)>> =
            SocketSource::new(&address, Default::default());
        let cx = ReaderCx {
            env: env.clone(),
            info: subtask_info(1, 1, 0, 1),
            waker: SlotWaker::default(),
        };
        let failure = csv.reader(cx).err().unwrap();
        assert!(failure.message.contains("header"), "{failure}");
    });
}

#[test]
fn it_connects_again_and_drops_a_line_that_was_cut_off() {
    with_env(async |env| {
        let (mut listener, address) = listen(&env).await;
        let source = SocketSource::lines(&address).reconnecting().at_most_once();
        let mut attempt = Attempt::begin(&env, &source, 1, 0);
        drop(accept_and_send(&mut *listener, b"one\ntwo\nthr").await);
        let _connection = accept_and_send(&mut *listener, b"four\n").await;
        assert_eq!(attempt.rows(3).await, ["one", "two", "four"]);
    });
}

#[test]
fn the_journal_has_every_row_before_it_is_emitted_and_gives_it_again() {
    let dir = tempfile::tempdir().unwrap();
    with_env(async |env| {
        let (mut listener, address) = listen(&env).await;
        let source = SocketSource::lines(&address)
            .reconnecting()
            .with_journal(dir.path().join("journal"));
        let mut attempt = Attempt::begin(&env, &source, 1, 0);
        let connection = accept_and_send(&mut *listener, b"one\ntwo\nthree\nhal").await;
        let mut positions = vec![0];
        for line in ["one", "two", "three"] {
            let (rows, position) = attempt.next(1).await.unwrap().unwrap();
            assert_eq!(rows, [line]);
            assert!(contains(
                &on_disk(&dir.path().join("journal")),
                &format!("{line}\n")
            ));
            positions.push(position);
        }
        drop((attempt, connection));
        let all = ["one", "two", "three", "four"];
        // Each attempt finds the lines of all before it, from its own position on.
        for (number, position) in positions.into_iter().enumerate() {
            let mut attempt = Attempt::begin(&env, &source, number as u32 + 2, position);
            let mut connection = listener.accept().await.unwrap();
            if number == 0 {
                connection.writer.write(b"four\n".to_vec()).await.unwrap();
            }
            assert_eq!(attempt.rows(4 - number).await, all[number..]);
        }
    });
}

#[test]
fn what_decided_checkpoints_have_is_trimmed() {
    let dir = tempfile::tempdir().unwrap();
    with_env(async |env| {
        let (mut listener, address) = listen(&env).await;
        let source = SocketSource::lines(&address)
            .with_journal(dir.path())
            .with_journal_roll_bytes(1);
        let mut attempt = Attempt::begin(&env, &source, 1, 0);
        let mut connection = listener.accept().await.unwrap();
        for n in 0..9 {
            connection
                .writer
                .write(format!("line {n}\n").into_bytes())
                .await
                .unwrap();
            let (_, position) = attempt.next(1).await.unwrap().unwrap();
            attempt.reader.committed(SPLIT, position).unwrap();
        }
        // The last trim is done when what came after it is here.
        connection.writer.write(b"last\n".to_vec()).await.unwrap();
        attempt.rows(1).await;
        assert!(fs::read_dir(dir.path()).unwrap().count() <= 3);
        assert!(!contains(&on_disk(dir.path()), "line 5\n"));
        assert!(contains(&on_disk(dir.path()), "last\n"));
    });
}

#[test]
fn the_journal_of_a_stream_that_has_ended_is_removed_when_it_is_decided() {
    let dir = tempfile::tempdir().unwrap();
    with_env(async |env| {
        let (env, mut ended) = watched(env);
        let (mut listener, address) = listen(&env).await;
        let source = SocketSource::lines(&address).with_journal(dir.path());
        let mut attempt = Attempt::begin(&env, &source, 1, 0);
        let mut connection = accept_and_send(&mut *listener, b"one\ntwo").await;
        connection.writer.finish().await.unwrap();
        assert_eq!(attempt.rows(2).await, ["one", "two"]);
        assert_eq!(attempt.next(1).await.unwrap(), None);
        attempt.reader.committed(SPLIT, 4).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        attempt.reader.committed(SPLIT, 8).unwrap();
        drop(attempt);
        ended.next("read socket").await;
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    });
}

#[test]
fn there_is_one_split_once() {
    with_env(async |env| {
        let source = SocketSource::<Lines>::lines("host:1");
        let mut enumerator = source.enumerator(&env).unwrap();
        let found = enumerator.discover(3).await.unwrap();
        assert_eq!(found.splits.len(), 1);
        assert!(found.exhausted);
        assert_eq!(found.splits[0].to_string(), "socket host:1");
        let mut restored = source.enumerator(&env).unwrap();
        restored.restore(enumerator.snapshot().unwrap()).unwrap();
        assert!(restored.discover(1).await.unwrap().splits.is_empty());
    });
}
