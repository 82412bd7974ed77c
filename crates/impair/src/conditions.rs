//! What is wrong with a path, and how it is written: `loss=0.03 delay=25 jitter=5 rate=2000 queue=64`.

use std::time::Duration;

/// What is wrong with one direction of a path. The default is nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Conditions {
    /// Share of packets lost at random, 0 to 1. Written `loss=0.03`.
    pub loss: f64,
    /// Added to every packet. Written in milliseconds, `delay=25`.
    pub delay: Duration,
    /// At most this is added on top, at random. Written in milliseconds, `jitter=10`.
    pub jitter: Duration,
    /// True lets jitter reorder packets. Written `reorder=1`.
    pub reorder: bool,
    /// Share of packets that arrive twice, 0 to 1. Written `duplicate=0.01`.
    pub duplicate: f64,
    /// Width of the bottleneck in bits per second, UDP and IP headers included; `None` for no bottleneck. Written in kilobits per
    /// second, `rate=2000`; `rate=0` for none.
    pub rate: Option<u64>,
    /// Bytes that may wait before the bottleneck; what comes more is lost. Written in KiB, `queue=64`.
    pub queue: usize,
    /// True loses everything. Written `cut=1`.
    pub cut: bool,
}

impl Default for Conditions {
    fn default() -> Self {
        Conditions {
            loss: 0.0,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            reorder: false,
            duplicate: 0.0,
            rate: None,
            queue: 128 * 1024,
            cut: false,
        }
    }
}

/// A condition that is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The word is not of the form `name=value`.
    #[error("`{0}` is not of the form name=value")]
    Form(String),
    /// Names are those of [`Conditions`].
    #[error("`{0}` is no condition: expected loss, delay, jitter, reorder, duplicate, rate, queue or cut")]
    Name(String),
    /// The value is not a number in the condition's range.
    #[error("`{value}` is no value for `{name}`")]
    Value {
        /// Of which condition.
        name: String,
        /// What was written.
        value: String,
    },
}

impl Conditions {
    /// These conditions with what `words` say changed.
    ///
    /// # Errors
    /// [`ParseError`] of the first word that is wrong.
    pub fn changed<'a>(&self, words: impl Iterator<Item = &'a str>) -> Result<Conditions, ParseError> {
        let mut changed = self.clone();
        for word in words {
            let (name, value) = word.split_once('=').ok_or_else(|| ParseError::Form(word.to_owned()))?;
            let bad = || ParseError::Value { name: name.to_owned(), value: value.to_owned() };
            let number = value.parse::<f64>().ok().filter(|number| (0.0..1e9).contains(number)).ok_or_else(bad)?;
            let share = || if number <= 1.0 { Ok(number) } else { Err(bad()) };
            match name {
                "loss" => changed.loss = share()?,
                "duplicate" => changed.duplicate = share()?,
                "delay" => changed.delay = Duration::from_secs_f64(number / 1000.0),
                "jitter" => changed.jitter = Duration::from_secs_f64(number / 1000.0),
                "reorder" => changed.reorder = number != 0.0,
                "cut" => changed.cut = number != 0.0,
                "rate" => changed.rate = (number > 0.0).then_some((number * 1000.0) as u64),
                "queue" => changed.queue = (number * 1024.0) as usize,
                _ => return Err(ParseError::Name(name.to_owned())),
            }
        }
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<Conditions, &str>) {
        let got = Conditions::default().changed(text.split_whitespace());
        assert_eq!(got.map_err(|error| error.to_string()), expected.map_err(str::to_owned));
    }

    #[test]
    fn words_change_conditions() {
        check("", Ok(Conditions::default()));
        check(
            "loss=0.03 delay=25 jitter=2.5 rate=2000 queue=64 reorder=1 cut=0",
            Ok(Conditions {
                loss: 0.03,
                delay: Duration::from_millis(25),
                jitter: Duration::from_micros(2500),
                rate: Some(2_000_000),
                queue: 65_536,
                reorder: true,
                ..Conditions::default()
            }),
        );
        check("rate=0", Ok(Conditions::default()));
        check("loss", Err("`loss` is not of the form name=value"));
        check("loss=3", Err("`3` is no value for `loss`"));
        check("delay=-1", Err("`-1` is no value for `delay`"));
        check("delay=NaN", Err("`NaN` is no value for `delay`"));
        check(
            "lost=1",
            Err("`lost` is no condition: expected loss, delay, jitter, reorder, duplicate, rate, queue or cut"),
        );
    }
}
