//! What is expected of an operator, and the cases it has to pass.

use crate::conditions::Conditions;
use crate::event::{Event, Keys};
use crate::fleet::{Fleet, Yard};
use crate::output::{Order, Output, Port, Row, compare};
use crate::subject::Subject;
use rivermark_data::{Batch, Data, Key};
use rivermark_env::{Env, ManualClock, TaskExit};
use rivermark_runtime::OutputTag;
use rivermark_sim::{Limits, ProcessStatus, RunEnd, SimWorld};
use rivermark_types::{SnapshotKind, Timestamp};
use std::any::type_name;
use std::cell::{Cell, RefCell};
use std::fmt::Debug;
use std::rc::Rc;
use std::time::Duration;

/// Where ports of side outputs begin: behind all that an operator of the engine numbers itself.
const SIDE_PORTS: u8 = 16;

/// Begins the verification of an operator. `subject` makes it, once for each case.
pub fn verify_operator(subject: impl Fn() -> Subject + 'static) -> Verification {
    Verification {
        subject: Box::new(subject),
        keys: Keys::default(),
        input: vec![],
        ports: vec![],
        outside: None,
        late: None,
        state_rows: None,
        seed: 1,
    }
}

/// An operator, its input, and what is expected of it.
#[must_use = "nothing runs before `verify`"]
pub struct Verification {
    subject: Box<dyn Fn() -> Subject>,
    keys: Keys,
    input: Vec<Event>,
    ports: Vec<Port>,
    outside: Option<(Order, Vec<String>)>,
    late: Option<u64>,
    state_rows: Option<usize>,
    seed: u64,
}

impl Verification {
    /// The operator stands behind a `key_by`: it has keyed state, and rows of this input go by this key.
    pub fn keyed_by<I: Data, K: Key>(mut self, input: u8, select: impl Fn(&I) -> K + 'static) -> Self {
        self.keys.add(input, select);
        self
    }

    /// Every instance gets the rows of this input. What they emit for one, each of them emits.
    pub fn broadcast(mut self, input: u8) -> Self {
        self.keys.add_broadcast(input);
        self
    }

    /// Adds to the input. A bounded job ends its input with a watermark of `i64::MAX`; here that is said.
    pub fn input(mut self, events: impl IntoIterator<Item = Event>) -> Self {
        self.input.extend(events);
        self
    }

    /// The rows that come out of the main port. Their times and their places between the watermarks are compared too, with
    /// those of the undisturbed run.
    pub fn expect<O: Data + Debug>(self, order: Order, rows: impl IntoIterator<Item = O>) -> Self {
        self.expect_on(0, order, rows)
    }

    /// The rows that come out of another port, such as late ones.
    pub fn expect_on<O: Data + Debug>(
        self,
        port: u8,
        order: Order,
        rows: impl IntoIterator<Item = O>,
    ) -> Self {
        self.expect_as(port, order, rows, |row| format!("{row:?}"))
    }

    /// The rows of a side output, compared as those of the main port are. A side output that no expectation names is taken
    /// by nobody.
    pub fn expect_side<O: Data + Debug>(
        self,
        tag: &OutputTag<O>,
        order: Order,
        rows: impl IntoIterator<Item = O>,
    ) -> Self {
        let port = SIDE_PORTS + self.ports.len() as u8;
        let mut verification = self.expect_on(port, order, rows);
        if let Some(port) = verification.ports.last_mut() {
            port.tag = Some((tag.name(), type_name::<O>()));
        }
        verification
    }

    /// The same, with a comparison of one's own: two rows are equal if the texts that `view` makes of them are.
    pub fn expect_as<O: Data>(
        mut self,
        port: u8,
        order: Order,
        rows: impl IntoIterator<Item = O>,
        view: impl Fn(&O) -> String + 'static,
    ) -> Self {
        let expected = rows.into_iter().map(|row| view(&row)).collect();
        let render = move |batch: Batch| {
            let rows = batch.take::<O>().map_err(|failure| failure.to_string())?;
            let times = rows
                .times
                .unwrap_or_else(|| vec![Timestamp::MIN; rows.values.len()]);
            let row = |(value, time): (&O, Timestamp)| Row {
                value: view(value),
                time: (time != Timestamp::MIN).then_some(time),
            };
            Ok(rows.values.iter().zip(times).map(row).collect())
        };
        self.ports.push(Port {
            number: port,
            tag: None,
            order,
            expected,
            render: Rc::new(render),
        });
        self
    }

    /// The rows that [`Subject::observed_by`] finds outside at the end, each exactly once.
    pub fn expect_outside<T: Debug>(mut self, order: Order, rows: impl IntoIterator<Item = T>) -> Self {
        let rows = rows.into_iter().map(|row| format!("{row:?}")).collect();
        self.outside = Some((order, rows));
        self
    }

    /// How many rows are counted as late and dropped.
    pub fn expect_late(mut self, rows: u64) -> Self {
        self.late = Some(rows);
        self
    }

    /// How many rows of keyed state are left at the end.
    pub fn expect_state_rows(mut self, rows: usize) -> Self {
        self.state_rows = Some(rows);
        self
    }

    /// Another seed for the schedule of I/O tasks and for measured costs.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Runs all cases.
    ///
    /// # Panics
    /// At the first case that fails, naming it and what differs. The run is deterministic: it fails again in the same way.
    #[track_caller]
    pub fn verify(self) {
        let seed = self.seed;
        let case = Rc::new(RefCell::new("the start".to_owned()));
        let outcome: Rc<RefCell<Option<Result<(), String>>>> = Rc::default();
        let (at, told) = (case.clone(), outcome.clone());
        let mut world = SimWorld::new(seed);
        let machine = world.machine("verify");
        let process = world.start(&machine, "verify", move |env| async move {
            let cases = Cases::new(self, env, at);
            let result = cases.run().await;
            *told.borrow_mut() = Some(result);
        });
        let limits = Limits {
            steps: u64::MAX,
            time: Duration::MAX,
        };
        let end = world.run_process(process, limits);
        let failed = match (outcome.take(), world.status(process), end) {
            (Some(Ok(())), ..) => return,
            (Some(Err(why)), ..) => why,
            (None, Some(ProcessStatus::Exited(TaskExit::Panicked(why))), _) => format!("it panicked: {why}"),
            (None, _, RunEnd::Deadlock(_)) => "it waits, and nothing is left that could wake it".to_owned(),
            (None, _, end) => format!("the run ended with {end:?}"),
        };
        let case = case.borrow();
        panic!("verify_operator: {case} (seed {seed}): {failed}");
    }
}

/// What happens behind a snapshot, before the instances crash.
#[derive(Clone, Copy, Debug)]
enum Aftermath {
    /// Nothing.
    CrashAtOnce,
    /// The checkpoint is decided, and they know.
    CrashWhenCommitted,
    /// The rest of the input is worked off while the image is copied row by row; that the checkpoint is decided is known
    /// only behind the next barrier, whose checkpoint is given up.
    CrashLater,
    /// What was restored is snapshotted at once, and restored again.
    RestoreTwice,
}

const AFTERMATHS: [Aftermath; 4] = [
    Aftermath::CrashAtOnce,
    Aftermath::CrashWhenCommitted,
    Aftermath::CrashLater,
    Aftermath::RestoreTwice,
];

/// The cases at work.
struct Cases {
    spec: Verification,
    keys: Rc<Keys>,
    ports: Rc<[Port]>,
    env: Env,
    case: Rc<RefCell<String>>,
    /// What the first undisturbed run gave.
    model: RefCell<Option<Output>>,
}

impl Cases {
    fn new(mut spec: Verification, env: Env, case: Rc<RefCell<String>>) -> Cases {
        Cases {
            keys: Rc::new(std::mem::take(&mut spec.keys)),
            ports: std::mem::take(&mut spec.ports).into(),
            spec,
            env,
            case,
            model: RefCell::default(),
        }
    }

    async fn run(&self) -> Result<(), String> {
        if self.spec.input.is_empty() {
            return Err("the input is empty: nothing would be verified".to_owned());
        }
        for conditions in Conditions::all() {
            self.undisturbed(conditions).await?;
        }
        for conditions in Conditions::few() {
            self.barriers_everywhere(conditions).await?;
            for position in 0..=self.spec.input.len() {
                for aftermath in AFTERMATHS {
                    self.crash(conditions, position, aftermath).await?;
                }
            }
            for position in 0..=self.spec.input.len() {
                self.rescale(conditions, position).await?;
            }
        }
        for conditions in Conditions::sliced() {
            for position in 0..self.spec.input.len() {
                for calls in [0, 1, 2] {
                    self.overtaken(conditions, position, calls).await?;
                }
            }
        }
        Ok(())
    }

    fn begin(&self, conditions: Conditions, what: String) -> Rc<Yard> {
        let subject = (self.spec.subject)();
        let clock = ManualClock::at(Timestamp(0));
        *self.case.borrow_mut() = format!("{}: {what}, {conditions}", subject.name);
        Rc::new(Yard {
            env: self.env.clone().with_manual_clock(clock.clone()),
            clock,
            subject,
            conditions,
            ports: self.ports.clone(),
            keys: self.keys.clone(),
            attempts: Cell::new(0),
            checkpoints: Cell::new(0),
        })
    }

    async fn undisturbed(&self, conditions: Conditions) -> Result<(), String> {
        let yard = self.begin(conditions, "undisturbed".to_owned());
        let mut fleet = Fleet::start(&yard, 1, None)?;
        fleet.feed(&self.spec.input).await?;
        self.finish(fleet, None, false).await
    }

    /// A checkpoint between any two elements, and no crash.
    async fn barriers_everywhere(&self, conditions: Conditions) -> Result<(), String> {
        let yard = self.begin(conditions, "a checkpoint at every position, no crash".to_owned());
        let mut fleet = Fleet::start(&yard, 1, None)?;
        for event in &self.spec.input {
            let checkpoint = fleet.barrier(SnapshotKind::Checkpoint).await?;
            fleet.feed(std::slice::from_ref(event)).await?;
            fleet.decide(checkpoint).await?;
        }
        self.finish(fleet, None, false).await
    }

    /// A snapshot at a position, from which everything behind it is done again.
    async fn crash(
        &self,
        conditions: Conditions,
        position: usize,
        aftermath: Aftermath,
    ) -> Result<(), String> {
        let yard = self.begin(
            conditions,
            format!("snapshot at position {position}, {aftermath:?}"),
        );
        let (before, behind) = self.spec.input.split_at(position);
        let mut fleet = Fleet::start(&yard, 1, None)?;
        fleet.feed(before).await?;
        let checkpoint = fleet.barrier(SnapshotKind::Checkpoint).await?;
        let mut output = fleet.take_output()?;
        if let Aftermath::CrashLater = aftermath {
            fleet.feed(behind).await?;
        }
        let mut snapshot = fleet.finish_image()?;
        match aftermath {
            Aftermath::CrashAtOnce => {}
            Aftermath::CrashWhenCommitted => fleet.decide(checkpoint).await?,
            Aftermath::CrashLater => {
                let lost = fleet.barrier(SnapshotKind::Checkpoint).await?;
                fleet.decide(checkpoint).await?;
                fleet.abort(lost)?;
            }
            Aftermath::RestoreTwice => {
                drop(fleet);
                fleet = Fleet::start(&yard, 1, Some(&snapshot))?;
                fleet.barrier(SnapshotKind::Checkpoint).await?;
                output = output.and(fleet.take_output()?);
                snapshot = fleet.finish_image()?;
            }
        }
        drop(fleet);
        let mut fleet = Fleet::start(&yard, 1, Some(&snapshot))?;
        fleet.feed(behind).await?;
        self.finish(fleet, Some(output), false).await
    }

    /// A barrier overtakes a batch after some calls; what it has overtaken comes first after the restore.
    async fn overtaken(&self, conditions: Conditions, position: usize, calls: usize) -> Result<(), String> {
        let what = format!("a barrier overtakes the batch at position {position} after {calls} calls");
        let yard = self.begin(conditions, what);
        let (before, behind) = self.spec.input.split_at(position);
        let mut fleet = Fleet::start(&yard, 1, None)?;
        fleet.feed(before).await?;
        let Some((checkpoint, left)) = fleet.overtake(behind, calls).await? else {
            return Ok(());
        };
        let output = fleet.take_output()?;
        if calls == 1 {
            fleet.decide(checkpoint).await?;
        }
        let snapshot = fleet.finish_image()?;
        drop(fleet);
        let mut fleet = Fleet::start(&yard, 1, Some(&snapshot))?;
        fleet.feed_portions(left).await?;
        self.finish(fleet, Some(output), false).await
    }

    /// From one instance to three at a position, and to two half-way behind it.
    async fn rescale(&self, conditions: Conditions, first: usize) -> Result<(), String> {
        let second = first.midpoint(self.spec.input.len());
        let what = format!("rescaled 1 → 3 at position {first}, → 2 at position {second}");
        let yard = self.begin(conditions, what);
        let parts = [
            (1, &self.spec.input[..first]),
            (3, &self.spec.input[first..second]),
            (2, &self.spec.input[second..]),
        ];
        let mut fleet = Fleet::start(&yard, 1, None)?;
        let mut output: Option<Output> = None;
        for (parallelism, events) in parts {
            if parallelism != 1 {
                let checkpoint = fleet.barrier(SnapshotKind::Checkpoint).await?;
                let part = fleet.take_output()?;
                output = Some(match output {
                    Some(before) => before.and(part),
                    None => part,
                });
                let snapshot = fleet.finish_image()?;
                // Once it is known, once it is not.
                if parallelism == 3 {
                    fleet.decide(checkpoint).await?;
                }
                drop(fleet);
                fleet = Fleet::start(&yard, parallelism, Some(&snapshot))?;
            }
            fleet.feed(events).await?;
        }
        self.finish(fleet, output, true).await
    }

    /// Ends a run and judges all of its output.
    async fn finish(&self, fleet: Fleet, before: Option<Output>, is_rescaled: bool) -> Result<(), String> {
        let (rest, state_rows) = fleet.end().await?;
        let outside = rest.outside.clone();
        let mut output = match before {
            Some(before) => before.and(rest),
            None => rest,
        };
        output.outside = outside;
        self.judge(&output, state_rows, is_rescaled)?;
        self.model.borrow_mut().get_or_insert(output);
        Ok(())
    }

    fn judge(&self, output: &Output, state_rows: usize, is_rescaled: bool) -> Result<(), String> {
        let model = self.model.borrow();
        for port in self.ports.iter() {
            let order = if is_rescaled { Order::Multiset } else { port.order };
            let in_order = Port {
                order,
                ..port.clone()
            };
            output.check_expected(&in_order)?;
            if let Some(model) = &*model {
                output.check_same(port, order, model)?;
            }
        }
        if let Some((order, expected)) = &self.spec.outside {
            let order = if is_rescaled { Order::Multiset } else { *order };
            let side = |rows: &[String]| rows.to_vec();
            compare(order, side(&output.outside), side(expected))
                .map_err(|diff| format!("outside:\n{diff}"))?;
        }
        let late = self.spec.late.unwrap_or(output.late);
        if output.late != late {
            return Err(format!(
                "{} rows were counted as late, {late} expected",
                output.late
            ));
        }
        let rows = self.spec.state_rows.unwrap_or(state_rows);
        if state_rows != rows {
            return Err(format!(
                "{state_rows} rows of keyed state are left at the end, {rows} expected"
            ));
        }
        Ok(())
    }
}
