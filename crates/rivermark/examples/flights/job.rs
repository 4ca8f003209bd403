//! The job. `build` only writes down the graph: sources, three ways through it, three sinks.

use crate::model::*;
use rivermark::prelude::*;
use rivermark::wording::date;
use std::path::PathBuf;

/// What makes the program a job.
pub const FLAG: &str = "--job";

/// Rows come up to 22 h 53 min behind the newest.
const DISORDER: Duration = Duration::from_secs(24 * 3600);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Flights out of New York: delays by hour, by carrier, by weather.
#[derive(clap::Args)]
pub struct Options {
    /// Be the job, not the parent that starts, kills and compares it
    #[arg(long)]
    job: bool,
    /// Where the flights and the weather are
    #[arg(long)]
    data: PathBuf,
    /// Where the results go
    #[arg(long)]
    out: PathBuf,
    /// Flights a second
    #[arg(long)]
    rate: u64,
}

pub fn build(env: &StreamEnv, options: Options) -> Result<()> {
    let flights = flights(env, &options);
    let weather = weather(env, &options);

    let hours = flights
        .clone()
        .key_by(|flight| flight.airport.clone())
        .window(Tumbling::of(HOUR))
        .fold(
            |tally: &mut Tally, flight| tally.add(flight.delay),
            |airport, window, tally| HourLine::new(airport, window, tally),
        )
        .name("delays by hour")
        .uid("hours");

    let carriers = flights
        .clone()
        .key_by(|flight| flight.carrier.clone())
        .process(CarrierDays::default)
        .name("carriers by day")
        .uid("carriers");

    let skies = flights
        .key_by(|flight| {
            (
                flight.airport.clone(),
                flight.scheduled - flight.scheduled.rem_euclid(HOUR_MS),
            )
        })
        .connect(weather.key_by(|weather| (weather.airport.clone(), weather.hour)))
        .process(AddSky::default)
        .name("add the sky")
        .uid("add-sky")
        .key_by(|departure| departure.sky)
        .window(Tumbling::of(DAY))
        .fold(
            |tally: &mut Tally, departure| tally.add(departure.delay),
            |sky, window, tally| SkyLine::new(*sky, window, tally),
        )
        .name("delays by sky")
        .uid("skies");

    hours
        .sink_to(FileSink::csv(options.out.join("hours")))
        .uid("hours-files");
    carriers
        .sink_to(FileSink::csv(options.out.join("carriers")))
        .uid("carriers-files");
    skies
        .sink_to(FileSink::csv(options.out.join("skies")))
        .uid("skies-files");
    Ok(())
}

/// The flights, in calendar order of their files, with event time.
fn flights(env: &StreamEnv, options: &Options) -> DataStream<Flight> {
    let time = WatermarkStrategy::bounded_out_of_orderness(DISORDER).with_timestamp(FlightLine::scheduled);
    let lines = SourceNode::new(FileSource::csv(options.data.join("flights")), time).rate(options.rate);
    env.from_source_node(lines)
        .name("flights")
        .uid("flights")
        .try_map(FlightLine::read)
        .name("read flight")
}

/// The weather. It is looked up by hour, so it needs no event time of its own: the watermark of what it is connected with
/// waits until all of it is there.
fn weather(env: &StreamEnv, options: &Options) -> DataStream<Weather> {
    let lines = FileSource::csv(options.data.join("weather.csv.gz"));
    let lines = env
        .from_source(lines, WatermarkStrategy::none())
        .name("weather")
        .uid("weather");
    lines.try_map(WeatherLine::read).name("read weather")
}

/// Adds up a carrier's days. A day is told when the watermark has passed it: then all of its flights are there, however
/// far out of order they came.
#[derive(Default)]
struct CarrierDays {
    /// Days that may still get flights, by their first millisecond.
    days: MapState<String, i64, Tally>,
    /// The year up to the last day that was told.
    year: ValueState<String, Tally>,
    timers: Timers<String>,
}

impl KeyedOp<String, Flight, CarrierLine> for CarrierDays {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, String>) -> Result<()> {
        self.days = cx.map("days")?;
        self.year = cx.value("year")?;
        self.timers = cx.timers()?;
        Ok(())
    }

    fn row(&mut self, carrier: &Key<String>, flight: Timed<Flight>, _: &mut Out<CarrierLine>) -> Result<()> {
        let day = flight.value.scheduled - flight.value.scheduled.rem_euclid(DAY_MS);
        self.days.update(carrier, day).add(flight.value.delay);
        self.timers.register(carrier, Timestamp(day + DAY_MS - 1));
        Ok(())
    }

    fn timer(&mut self, carrier: &Key<String>, at: Timer, out: &mut Out<CarrierLine>) -> Result<()> {
        let day = at.time.0 + 1 - DAY_MS;
        if let Some(tally) = self.days.remove(carrier, &day) {
            let year = self.year.update(carrier);
            year.merge(tally);
            out.emit(CarrierLine {
                day: date(Timestamp(day)),
                carrier: carrier.value.clone(),
                flights: tally.flights,
                cancelled: tally.cancelled,
                delay: tally.delay,
                year_flights: year.flights,
                year_cancelled: year.cancelled,
                year_delay: year.delay,
            });
        }
        Ok(())
    }
}

/// An airport and the first millisecond of an hour.
type Place = (String, i64);

/// Gives each flight the sky of its airport and hour. Whichever of the two comes first waits for the other; when the hour
/// has passed, flights whose weather nobody wrote down go on without.
#[derive(Default)]
struct AddSky {
    sky: ValueState<Place, Sky>,
    waiting: ListState<Place, Flight>,
    timers: Timers<Place>,
}

impl AddSky {
    fn let_go(&mut self, place: &Key<Place>, sky: Option<Sky>, out: &mut Out<Departure>) {
        for flight in self.waiting.clear(place) {
            out.emit_at(
                Departure {
                    sky,
                    delay: flight.delay,
                },
                Timestamp(flight.scheduled),
            );
        }
    }
}

impl KeyedOp2<Place, Flight, Weather, Departure> for AddSky {
    fn open(&mut self, cx: &mut KeyedOpenCx<'_, Place>) -> Result<()> {
        self.sky = cx.value("sky")?;
        self.waiting = cx.list("waiting")?;
        self.timers = cx.timers()?;
        Ok(())
    }

    fn left(&mut self, place: &Key<Place>, flight: Timed<Flight>, out: &mut Out<Departure>) -> Result<()> {
        match self.sky.get(place).copied() {
            Some(sky) => out.emit(Departure {
                sky: Some(sky),
                delay: flight.value.delay,
            }),
            None => {
                self.waiting.push(place, flight.value);
                self.timers
                    .register(place, Timestamp(place.value.1 + HOUR_MS - 1));
            }
        }
        Ok(())
    }

    fn right(&mut self, place: &Key<Place>, weather: Timed<Weather>, out: &mut Out<Departure>) -> Result<()> {
        self.let_go(place, Some(weather.value.sky), out);
        self.sky.set(place, weather.value.sky);
        self.timers
            .register(place, Timestamp(place.value.1 + HOUR_MS - 1));
        Ok(())
    }

    fn timer(&mut self, place: &Key<Place>, _: Timer, out: &mut Out<Departure>) -> Result<()> {
        self.let_go(place, None, out);
        self.sky.clear(place);
        Ok(())
    }
}
