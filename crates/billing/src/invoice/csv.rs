//! Exports of an invoice: its lines, and the intervals behind them.

use std::collections::BTreeMap;

use api::id::SessionId;
use api::manifest::AppName;

use super::Invoice;
use crate::csv::{Cell, row, seconds};

impl Invoice {
    /// One row a line. Ends of rows are CR LF, texts are quoted, instants are RFC 3339 in UTC.
    #[must_use]
    pub fn lines_csv(&self) -> String {
        let mut out = String::from(
            "invoice,position,order,plan,title,version,item,posting,correction,from,to,seconds,amount,currency\r\n",
        );
        for line in &self.lines {
            let change = &line.billable.posted.change;
            let cells = [
                Cell::Text(self.number.as_str()),
                Cell::Figure(line.position.to_string()),
                Cell::Figure(change.key.order.to_string()),
                Cell::Text(change.plan.as_str()),
                Cell::Text(&line.billable.title),
                Cell::Figure(change.version.to_string()),
                Cell::Figure(change.key.item.word().to_owned()),
                Cell::Figure(line.billable.posted.posting.to_string()),
                Cell::Figure(line.is_correction.to_string()),
                Cell::Figure(change.period.from.to_string()),
                Cell::Figure(change.period.to.to_string()),
                Cell::Figure(seconds(change.quantity_ms)),
                Cell::Figure(change.amount.decimal()),
                Cell::Figure(change.amount.currency.to_string()),
            ];
            row(&mut out, &cells);
        }
        out
    }

    /// One row for each interval behind each line. `apps` says which app a session played.
    #[must_use]
    pub fn intervals_csv(&self, apps: &BTreeMap<SessionId, AppName>) -> String {
        let mut out =
            String::from("invoice,position,order,item,session,app,interval,from,to,seconds,extra_seconds\r\n");
        for line in &self.lines {
            let change = &line.billable.posted.change;
            for one in &change.evidence {
                let cells = [
                    Cell::Text(self.number.as_str()),
                    Cell::Figure(line.position.to_string()),
                    Cell::Figure(change.key.order.to_string()),
                    Cell::Figure(change.key.item.word().to_owned()),
                    Cell::Figure(one.session.to_string()),
                    Cell::Text(apps.get(&one.session).map_or("", AppName::as_str)),
                    Cell::Figure(one.interval.to_string()),
                    Cell::Figure(one.from.to_string()),
                    Cell::Figure(one.to.to_string()),
                    Cell::Figure(seconds(one.ms)),
                    Cell::Figure(seconds(one.extra_ms)),
                ];
                row(&mut out, &cells);
            }
        }
        out
    }
}
