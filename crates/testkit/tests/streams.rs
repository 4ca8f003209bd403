//! Side outputs, operators without a key, operator state and broadcast state under every condition of the engine.

use rivermark_runtime::operators::{KeyedOp, KeyedOpenCx, KeyedOperator, Out, Timed, Timer};
use rivermark_runtime::{OutputTag, SideOutput};
use rivermark_state::{Key, Timers};
use rivermark_testkit::{Event, Order, Subject, verify_operator};
use rivermark_types::{Failure, Result, Timestamp};

const END: i64 = i64::MAX;

/// Numbers that look like noise and are the same every time.
fn noise(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) >> 33
}

const ODD: OutputTag<u64> = OutputTag::new("odd");
const FIRED: OutputTag<(u64, i64)> = OutputTag::new("fired");
const UNTAKEN: OutputTag<String> = OutputTag::new("untaken");

/// Lets even numbers pass, odd ones aside (multiples of nine many times), and tells timers aside.
#[derive(Default)]
struct Sorting {
    odd: SideOutput<u64>,
    fired: SideOutput<(u64, i64)>,
    untaken: SideOutput<String>,
    timers: Option<Timers<u64>>,
}

impl KeyedOp<u64, u64, u64> for Sorting {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, u64>) -> Result<()> {
        self.odd = cx.side_output(&ODD)?;
        self.fired = cx.side_output(&FIRED)?;
        self.untaken = cx.side_output(&UNTAKEN)?;
        self.timers = Some(cx.timers()?);
        Ok(())
    }
    fn row(&mut self, key: &Key<u64>, row: Timed<u64>, out: &mut Out<u64>) -> Result<()> {
        assert!(self.odd.is_taken() && !self.untaken.is_taken());
        self.untaken.emit("to nobody".to_owned());
        let time = row.event_time()?;
        match row.value % 2 {
            0 => out.emit(row.value),
            _ if row.value.is_multiple_of(9) => {
                (0..20).for_each(|n| self.odd.emit_at(row.value, time.plus_ms(n)))
            }
            _ => self.odd.emit(row.value),
        }
        let timers = self.timers.as_mut().ok_or_else(|| Failure::bug("not open"))?;
        timers.register(key, due(time));
        Ok(())
    }
    fn timer(&mut self, key: &Key<u64>, at: Timer, _: &mut Out<u64>) -> Result<()> {
        self.fired.emit((key.value, at.time.0));
        Ok(())
    }
}

fn due(time: Timestamp) -> Timestamp {
    Timestamp(time.0 / 10 * 10 + 10)
}

#[test]
fn side_outputs_of_a_keyed_operator() {
    let rows: Vec<(u64, i64)> = (0..50).map(|n| (noise(n) % 100, n as i64)).collect();
    let mut input = vec![];
    for (at, (row, time)) in rows.iter().enumerate() {
        input.push(Event::row(*row).at(*time));
        if at % 8 == 7 {
            input.push(Event::watermark(*time - 3));
        }
    }
    input.push(Event::watermark(END));
    let even = rows.iter().map(|row| row.0).filter(|n| n.is_multiple_of(2));
    let times = |n: u64| if n.is_multiple_of(9) { 20 } else { 1 };
    let odd = rows.iter().map(|row| row.0).filter(|n| !n.is_multiple_of(2));
    let odd = odd.flat_map(|n| vec![n; times(n)]);
    let mut fired: Vec<_> = rows
        .iter()
        .map(|(n, time)| (n % 7, due(Timestamp(*time)).0))
        .collect();
    fired.sort_unstable();
    fired.dedup();
    let select = |row: &u64| row % 7;
    verify_operator(move || Subject::operator(move || KeyedOperator::new(select, Sorting::default())))
        .keyed_by(0, select)
        .input(input)
        .expect(Order::Exact, even)
        .expect_side(&ODD, Order::Exact, odd)
        .expect_side(&FIRED, Order::Multiset, fired)
        .expect_state_rows(0)
        .verify();
}
