//! The rows: as they stand in the files, as the job works with them, and as it writes them.

use rivermark::prelude::*;
use rivermark::wording::date;
use serde::{Deserialize, Serialize};

pub const MINUTE_MS: i64 = 60_000;
pub const HOUR_MS: i64 = 60 * MINUTE_MS;
pub const DAY_MS: i64 = 24 * HOUR_MS;

/// A flight as it stands in the file; of its 19 columns the ones the job uses.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FlightLine {
    pub carrier: String,
    pub origin: String,
    /// Minutes; `NA` if it never left.
    pub dep_delay: String,
    /// The scheduled minute of the scheduled hour.
    pub minute: i64,
    /// The scheduled hour, in UTC.
    pub time_hour: String,
}

impl FlightLine {
    /// Event time: when it was to leave. A line without one has no place in time; [`FlightLine::read`] says what is wrong.
    pub fn scheduled(&self) -> Timestamp {
        hour_ms(&self.time_hour).map_or(Timestamp::MIN, |hour| Timestamp(hour + self.minute * MINUTE_MS))
    }

    pub fn read(self) -> Result<Flight, String> {
        let hour = hour_ms(&self.time_hour)?;
        let delay = match self.dep_delay.as_str() {
            "NA" => None,
            minutes => Some(
                minutes
                    .parse()
                    .map_err(|_| format!("{minutes:?} is no delay in minutes"))?,
            ),
        };
        Ok(Flight {
            scheduled: hour + self.minute * MINUTE_MS,
            airport: self.origin,
            carrier: self.carrier,
            delay,
        })
    }
}

/// A flight.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Flight {
    /// Milliseconds since 1970, UTC.
    pub scheduled: i64,
    pub airport: String,
    pub carrier: String,
    /// Minutes it left late (early if negative); `None` if it never left.
    pub delay: Option<i64>,
}

/// An hour of weather as it stands in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WeatherLine {
    pub origin: String,
    pub temp: String,
    pub wind_speed: String,
    pub precip: String,
    pub visib: String,
    pub time_hour: String,
}

impl WeatherLine {
    pub fn read(self) -> Result<Weather, String> {
        let number = |text: &str| match text {
            "NA" => Ok(None),
            text => text
                .parse::<f64>()
                .map(Some)
                .map_err(|_| format!("{text:?} is no measurement")),
        };
        let wet = number(&self.precip)?.is_some_and(|inches| inches > 0.0);
        let cold = number(&self.temp)?.is_some_and(|fahrenheit| fahrenheit <= 34.0);
        let dim = number(&self.visib)?.is_some_and(|miles| miles < 2.0);
        let windy = number(&self.wind_speed)?.is_some_and(|mph| mph >= 20.0);
        let sky = match () {
            () if wet && cold => Sky::Snow,
            () if wet => Sky::Rain,
            () if dim => Sky::Fog,
            () if windy => Sky::Wind,
            () => Sky::Fair,
        };
        Ok(Weather {
            hour: hour_ms(&self.time_hour)?,
            airport: self.origin,
            sky,
        })
    }
}

/// What the sky was like at an airport in an hour.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Weather {
    pub hour: i64,
    pub airport: String,
    pub sky: Sky,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Sky {
    Fair,
    Wind,
    Fog,
    Rain,
    Snow,
}

/// A flight with the sky it was to leave into, where that is known.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Departure {
    pub sky: Option<Sky>,
    pub delay: Option<i64>,
}

/// Flights, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub flights: u64,
    pub cancelled: u64,
    /// Minutes, all in all.
    pub delay: i64,
}

impl Tally {
    pub fn add(&mut self, delay: Option<i64>) {
        self.flights += 1;
        match delay {
            Some(minutes) => self.delay += minutes,
            None => self.cancelled += 1,
        }
    }

    pub fn merge(&mut self, other: Tally) {
        self.flights += other.flights;
        self.cancelled += other.cancelled;
        self.delay += other.delay;
    }

    /// Minutes late on average, of those that left.
    pub fn average(&self) -> i64 {
        self.delay / (self.flights - self.cancelled).max(1) as i64
    }
}

/// A line of `hours/`: an airport's hour.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HourLine {
    pub hour: String,
    pub airport: String,
    pub flights: u64,
    pub cancelled: u64,
    pub delay: i64,
}

impl HourLine {
    pub fn new(airport: &str, window: Window, tally: Tally) -> HourLine {
        let Tally {
            flights,
            cancelled,
            delay,
        } = tally;
        HourLine {
            hour: date(window.start),
            airport: airport.to_owned(),
            flights,
            cancelled,
            delay,
        }
    }
}

/// A line of `carriers/`: a carrier's day, and its year so far.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CarrierLine {
    pub day: String,
    pub carrier: String,
    pub flights: u64,
    pub cancelled: u64,
    pub delay: i64,
    pub year_flights: u64,
    pub year_cancelled: u64,
    pub year_delay: i64,
}

/// A line of `skies/`: a day's flights under one kind of sky; `None` where the weather is not known.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SkyLine {
    pub day: String,
    pub sky: Option<Sky>,
    pub flights: u64,
    pub cancelled: u64,
    pub delay: i64,
}

impl SkyLine {
    pub fn new(sky: Option<Sky>, window: Window, tally: Tally) -> SkyLine {
        let Tally {
            flights,
            cancelled,
            delay,
        } = tally;
        SkyLine {
            day: date(window.start),
            sky,
            flights,
            cancelled,
            delay,
        }
    }
}

/// Milliseconds since 1970 of a text such as `2013-07-22T20:00:00Z`.
pub fn hour_ms(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?} is no hour such as 2013-07-22T20:00:00Z");
    let number = |range| {
        text.get(range)
            .and_then(|part: &str| part.parse::<i64>().ok())
            .ok_or_else(wrong)
    };
    let (year, month, day, hour) = (number(0..4)?, number(5..7)?, number(8..10)?, number(11..13)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || !(0..24).contains(&hour) {
        return Err(wrong());
    }
    // Years that begin in March have the day that leap years add at their end.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468;
    Ok(days * DAY_MS + hour * HOUR_MS)
}
