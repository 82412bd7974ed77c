//! A page that prints well: one file without anything from elsewhere, A4, black on white.
//!
//! Every text is escaped, and characters that turn the direction of writing are shown as what they are: a name cannot make an amount look like
//! another. The page forbids itself scripts and whatever would be loaded.

use api::clock::UtcTime;

use super::{CreditNote, Invoice, InvoiceLine, Party};
use crate::period::Zone;
use crate::rating::{Charge, Item, Step, StepKind};

/// Intervals that are printed for a line; the export has all. More fill boxes of paper, fewer hide what people look for.
const MOST_PRINTED: usize = 400;

const STYLE: &str = "\
@page{size:A4;margin:18mm 16mm 20mm;@bottom-right{content:counter(page) ' / ' counter(pages);font:8pt sans-serif;color:#555}}\
*{box-sizing:border-box}\
body{font:10pt/1.4 'Helvetica Neue',Arial,'Liberation Sans',sans-serif;color:#111;margin:0 auto;max-width:178mm;padding:8mm 0}\
@media print{body{padding:0}}\
header{display:flex;justify-content:space-between;align-items:flex-start;gap:10mm}\
h1{font-size:20pt;margin:0 0 2mm;font-weight:600;letter-spacing:-.01em;text-align:right}\
h2{font-size:11pt;margin:9mm 0 2mm;font-weight:600;break-after:avoid}\
address{font-style:normal;overflow-wrap:anywhere}\
.to{margin:12mm 0 0}\
.small{font-size:8pt;color:#555}\
dl{display:grid;grid-template-columns:auto auto;gap:0 5mm;margin:0;justify-content:end}\
dt{color:#555}dd{margin:0;text-align:right;font-variant-numeric:tabular-nums}\
table{width:100%;border-collapse:collapse;margin:4mm 0 0;font-variant-numeric:tabular-nums}\
thead{display:table-header-group}\
th{text-align:left;font-weight:600;font-size:8pt;color:#555;border-bottom:.4mm solid #111;padding:1mm 2mm 1mm 0}\
td{vertical-align:top;padding:1.5mm 2mm 1.5mm 0;border-bottom:.2mm solid #ccc;overflow-wrap:anywhere}\
tr{break-inside:avoid}\
.n{text-align:right;white-space:nowrap;padding-right:0;padding-left:3mm;overflow-wrap:normal}\
.sum{width:80mm;margin-left:auto}.sum td{border:0;padding:.8mm 0}\
.sum tr:last-child td{border-top:.4mm solid #111;font-weight:600;font-size:12pt;padding-top:1.5mm}\
.proof{font-size:7pt}.proof td,.proof th{padding:.5mm 2mm .5mm 0;white-space:nowrap}.proof .n{padding:.5mm 0 .5mm 2mm}\
.proof .id{font:5.6pt/10pt 'DejaVu Sans Mono','Liberation Mono',monospace}";

/// A text as it stands in a page.
fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Controls, and what turns the direction of writing or is not seen at all.
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => {
                out.push('\u{fffd}');
            }
            character if character.is_control() => out.push('\u{fffd}'),
            character => out.push(character),
        }
    }
    out
}

/// Hours, minutes and seconds: `1:05:00`, with milliseconds where there are some.
fn duration(ms: i64) -> String {
    let sign = if ms < 0 { "\u{2212}" } else { "" };
    let (seconds, rest) = (ms.unsigned_abs() / 1000, ms.unsigned_abs() % 1000);
    let rest = if rest == 0 { String::new() } else { format!(".{rest:03}") };
    format!("{sign}{}:{:02}:{:02}{rest}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// An instant in the zone; RFC 3339 where the calendar ends.
fn moment(zone: &Zone, at: UtcTime) -> String {
    text(&zone.date_time(at).unwrap_or_else(|_range| at.to_string()))
}

fn day(zone: &Zone, at: UtcTime) -> String {
    text(&zone.date(at).unwrap_or_else(|_range| at.to_string()))
}

fn party(party: &Party) -> String {
    let mut out = format!("<address><b>{}</b>", text(&party.name));
    for line in &party.address {
        out.push_str(&format!("<br>{}", text(line)));
    }
    if let Some(id) = &party.tax_id {
        out.push_str(&format!("<br>{}", text(id)));
    }
    out.push_str("</address>");
    out
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
        <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
        <meta name=\"viewport\" content=\"width=device-width\"><title>{}</title><style>{STYLE}</style></head>\
        <body>{body}</body></html>\n",
        text(title)
    )
}

/// The head of a document: from whom, to whom, number and dates.
fn head(title: &str, seller: &Party, buyer: &Party, facts: &[(&str, String)]) -> String {
    let facts: String = facts.iter().map(|(name, value)| format!("<dt>{name}</dt><dd>{value}</dd>")).collect();
    format!(
        "<header>{}<div><h1>{title}</h1><dl>{facts}</dl></div></header><div class=\"to\">{}</div>",
        party(seller),
        party(buyer)
    )
}

fn sums(net: &str, tax_name: &str, tax: &str, gross_name: &str, gross: &str) -> String {
    format!(
        "<table class=\"sum\"><tr><td>Net<td class=\"n\">{net}<tr><td>{tax_name}<td class=\"n\">{tax}\
        <tr><td>{gross_name}<td class=\"n\">{gross}</table>"
    )
}

/// Hundredths of a percent as percent.
fn percent(basis_points: u32) -> String {
    match basis_points % 100 {
        0 => format!("{} %", basis_points / 100),
        rest => format!("{}.{rest:02} %", basis_points / 100),
    }
}

const fn item(item: Item) -> &'static str {
    match item {
        Item::Fee => "Fee",
        Item::Time => "Play",
        Item::Fault => "Play that we broke",
    }
}

fn step(step: &Step, charge: &Charge) -> String {
    let time = duration(step.ms);
    let price = step.rate.map(|rate| {
        let minor = crate::money::Money::new(rate.minor, charge.amount.currency);
        let per = match rate.seconds {
            1 => "a second".to_owned(),
            60 => "a minute".to_owned(),
            3600 => "an hour".to_owned(),
            seconds => format!("for {seconds} seconds"),
        };
        format!("{minor} {per}")
    });
    match (step.kind, price) {
        (StepKind::Prepaid, _) => format!("{time} prepaid"),
        (StepKind::Included, _) => format!("{time} included"),
        (StepKind::Grace, _) => format!("{time} as a grace"),
        (StepKind::Tier { .. }, Some(price)) => format!("{time} at {price}"),
        (StepKind::Tier { .. }, None) => time,
    }
}

impl Invoice {
    /// The page.
    #[must_use]
    pub fn html(&self) -> String {
        let title = format!("Invoice {}", self.number);
        let facts = [
            ("Date", day(&self.zone, self.issued)),
            ("Due", day(&self.zone, self.due)),
            ("From", moment(&self.zone, self.period.from)),
            ("Until before", moment(&self.zone, self.period.to)),
            ("Time zone", text(self.zone.name())),
            ("Tenant", text(self.tenant.as_str())),
        ];
        let lines: String = self.lines.iter().map(|line| self.line(line)).collect();
        let tax = format!("{} {}", text(&self.tax_rate.name), percent(self.tax_rate.basis_points));
        let sums = sums(
            &self.net.to_string(),
            &tax,
            &self.tax.to_string(),
            if self.gross.minor < 0 { "To your credit" } else { "To be paid" },
            &self.gross.to_string(),
        );
        let body = format!(
            "{}<table><thead><tr><th>#<th>What<th class=\"n\">Time<th class=\"n\">Amount</thead><tbody>{lines}</tbody></table>\
            {sums}{}{}",
            head(&text(&title), &self.seller, &self.buyer, &facts),
            self.by_app(),
            self.proof()
        );
        page(&title, &body)
    }

    fn line(&self, line: &InvoiceLine) -> String {
        let posted = &line.billable.posted;
        let change = &posted.change;
        let steps: Vec<String> = change.steps.iter().map(|one| step(one, change)).collect();
        let mut notes = vec![format!(
            "{} to {}, plan {} version {}, {}",
            moment(&self.zone, change.period.from),
            moment(&self.zone, change.period.to),
            text(change.plan.as_str()),
            change.version,
            change.key.order
        )];
        if line.is_correction {
            notes.push("Correction of time before: facts came late, or terms changed.".to_owned());
        }
        if !steps.is_empty() {
            notes.push(steps.join(" \u{b7} "));
        }
        let time = if change.quantity_ms == 0 { String::new() } else { duration(change.quantity_ms) };
        format!(
            "<tr><td>{}<td>{}: {}<div class=\"small\">{}</div><td class=\"n\">{time}<td class=\"n\">{}",
            line.position,
            text(&line.billable.title),
            item(change.key.item),
            notes.join("<br>"),
            change.amount
        )
    }

    fn by_app(&self) -> String {
        if self.apps.iter().all(|one| one.app.is_none()) {
            return String::new();
        }
        let row = |one: &super::AppSubtotal| {
            let name = one.app.as_ref().map_or_else(|| "Fees and others".to_owned(), |app| text(app.as_str()));
            format!("<tr><td>{name}<td class=\"n\">{}<td class=\"n\">{}", duration(one.ms), one.net)
        };
        let rows: String = self.apps.iter().map(row).collect();
        format!(
            "<h2>By app</h2><table><thead><tr><th>App<th class=\"n\">Time<th class=\"n\">Net</thead><tbody>{rows}</tbody></table>"
        )
    }

    /// The intervals behind each line.
    fn proof(&self) -> String {
        let mut out = String::new();
        for line in &self.lines {
            let evidence = &line.billable.posted.change.evidence;
            if evidence.is_empty() {
                continue;
            }
            out.push_str(&format!(
                "<h2>Intervals of line {}</h2><table class=\"proof\"><thead><tr><th>Session<th>Interval<th>From<th>To\
                <th class=\"n\">Time<th class=\"n\">Minimum</thead><tbody>",
                line.position
            ));
            for one in evidence.iter().take(MOST_PRINTED) {
                let extra = if one.extra_ms == 0 { String::new() } else { duration(one.extra_ms) };
                out.push_str(&format!(
                    "<tr><td class=\"id\">{}<td class=\"id\">{}<td>{}<td>{}<td class=\"n\">{}<td class=\"n\">{extra}",
                    one.session,
                    one.interval,
                    moment(&self.zone, one.from),
                    moment(&self.zone, one.to),
                    duration(one.ms)
                ));
            }
            out.push_str("</tbody></table>");
            if let Some(more) = evidence.len().checked_sub(MOST_PRINTED).filter(|more| *more > 0) {
                out.push_str(&format!("<p class=\"small\">And {more} more: the export of intervals has all.</p>"));
            }
        }
        out
    }
}

impl CreditNote {
    /// The page. `invoice` is the one that it is for.
    #[must_use]
    pub fn html(&self, invoice: &Invoice) -> String {
        let title = format!("Credit note {}", self.number);
        let facts = [
            ("Date", day(&invoice.zone, self.issued)),
            ("For invoice", text(self.invoice.as_str())),
            ("Tenant", text(invoice.tenant.as_str())),
        ];
        let row = |line: &super::CreditLine| {
            let (position, refers_to, why) = (line.position, line.refers_to, text(&line.why));
            format!("<tr><td>{position}<td>Line {refers_to}: {why}<td class=\"n\">{}", line.amount)
        };
        let rows: String = self.lines.iter().map(row).collect();
        let tax = format!("{} {}", text(&invoice.tax_rate.name), percent(invoice.tax_rate.basis_points));
        let body = format!(
            "{}<table><thead><tr><th>#<th>What<th class=\"n\">Amount</thead><tbody>{rows}</tbody></table>{}",
            head(&text(&title), &invoice.seller, &invoice.buyer, &facts),
            sums(&self.net.to_string(), &tax, &self.tax.to_string(), "To your credit", &self.gross.to_string())
        );
        page(&title, &body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_shown_as_they_are() {
        let check = |raw: &str, expected: &str| assert_eq!(text(raw), expected);
        check("Söhne & Töchter", "Söhne &amp; Töchter");
        check("<script>alert('1')</script>", "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;");
        check("\" onload=\"x", "&quot; onload=&quot;x");
        check("a\u{202e}b\u{0}c\u{feff}", "a\u{fffd}b\u{fffd}c\u{fffd}");
    }

    #[test]
    fn times_are_read_easily() {
        let check = |ms, expected: &str| assert_eq!(duration(ms), expected);
        check(0, "0:00:00");
        check(3_661_000, "1:01:01");
        check(360_000_001, "100:00:00.001");
        check(-1500, "\u{2212}0:00:01.500");
        assert_eq!([percent(1900), percent(750), percent(5)], ["19 %", "7.50 %", "0.05 %"]);
    }
}
