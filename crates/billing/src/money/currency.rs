//! Currencies of ISO 4217 (list one, 2024) with their exponents: how many decimals a minor unit is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A currency, by its code of ISO 4217.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

/// A text that is no currency in use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no currency: expected a code of ISO 4217 in capitals, for example EUR")]
pub struct CurrencyError(String);

/// Where the minor unit is a hundredth.
const HUNDREDTHS: &str = "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC CUP \
    CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP \
    LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD \
    SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD YER ZAR ZMW";
/// Where there is none.
const WHOLE: &str = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF";
/// Where it is a thousandth.
const THOUSANDTHS: &str = "BHD IQD JOD KWD LYD OMR TND";

impl Currency {
    /// Euro.
    pub const EUR: Currency = Currency(*b"EUR");
    /// United States dollar.
    pub const USD: Currency = Currency(*b"USD");
    /// Yen.
    pub const JPY: Currency = Currency(*b"JPY");
    /// Kuwaiti dinar.
    pub const KWD: Currency = Currency(*b"KWD");

    /// The code.
    #[must_use]
    pub fn code(&self) -> &str {
        // Only texts of the lists, which are ASCII, are ever kept.
        std::str::from_utf8(&self.0).unwrap_or("???")
    }

    /// Decimals of the minor unit: 2 for EUR, 0 for JPY, 3 for KWD.
    #[must_use]
    pub fn exponent(&self) -> u8 {
        if is_in(WHOLE, self.code()) {
            0
        } else if is_in(THOUSANDTHS, self.code()) {
            3
        } else {
            2
        }
    }
}

fn is_in(list: &str, code: &str) -> bool {
    list.split_ascii_whitespace().any(|one| one == code)
}

impl FromStr for Currency {
    type Err = CurrencyError;

    fn from_str(text: &str) -> Result<Currency, CurrencyError> {
        let error = || CurrencyError(text.chars().take(20).collect());
        let code: [u8; 3] = text.as_bytes().try_into().map_err(|_length| error())?;
        if [HUNDREDTHS, WHOLE, THOUSANDTHS].iter().any(|list| is_in(list, text)) {
            Ok(Currency(code))
        } else {
            Err(error())
        }
    }
}

impl TryFrom<String> for Currency {
    type Error = CurrencyError;
    fn try_from(text: String) -> Result<Currency, CurrencyError> {
        text.parse()
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> String {
        currency.code().to_owned()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_disjoint_codes() {
        let all: Vec<&str> =
            [HUNDREDTHS, WHOLE, THOUSANDTHS].iter().flat_map(|list| list.split_ascii_whitespace()).collect();
        let unique: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(unique.len(), all.len());
        for code in all {
            assert!(code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase()), "{code}");
        }
    }

    #[test]
    fn exponents_are_those_of_the_standard() {
        for (code, exponent) in [("EUR", 2), ("JPY", 0), ("KWD", 3), ("KRW", 0), ("TND", 3), ("MGA", 2)] {
            assert_eq!(code.parse::<Currency>().map(|currency| currency.exponent()), Ok(exponent), "{code}");
        }
        for code in ["XXX", "eur", "EU", "EURO", "", "E R"] {
            assert!(code.parse::<Currency>().is_err(), "{code}");
        }
    }
}
