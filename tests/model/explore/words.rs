//! The explored world in words, for people who have to understand how a promise broke.

use super::{
    moves::{Moves, Next},
    point::{Answer, Point, Session, Slot, Worker},
    search::Breach,
};

/// The steps of a path, found again by taking them.
pub fn tell(moves: &mut Moves, breach: &Breach) -> String {
    let mut lines = vec![format!("{} (Pike {})", breach.broken, moves.reading.name)];
    let mut next: Vec<Next> = vec![];
    for pair in breach.path.windows(2) {
        let mut taken = None;
        for faults in [false, true] {
            moves.all(&pair[0], faults, &mut next);
            let fitting =
                |broken: bool| next.iter().find(|step| step.to == pair[1] && step.broken.is_some() == broken);
            taken =
                taken.or_else(|| fitting(true).or_else(|| fitting(false)).map(|step| (step.label, faults)));
        }
        let (label, fault) = taken.unwrap();
        let mut line = format!("{:>3}. {}{}", lines.len(), if fault { "FAULT " } else { "" }, label.text);
        if let Some(kind) = label.kind {
            line += &format!(" {kind:?}");
        }
        if let Some(answer) = label.answer {
            line += &format!(" {}", shown(answer));
        }
        if let Some((asked, at)) = label.follows {
            line += &format!(" => {}", moves.desk.answers[asked][at].why);
        }
        lines.push(format!("{line:<90} | {}", standing(moves, &pair[1])));
    }
    lines.join("\n")
}

fn shown(answer: Answer) -> String {
    match answer {
        Answer::Shows(seen) => {
            let several = if seen.several { ", several" } else { "" };
            let other = if seen.other_amount { ", other amount" } else { "" };
            format!("({:?} shows {:?}{several}{other})", seen.session, seen.shown)
        }
        Answer::Declined => "(declined)".to_owned(),
        Answer::Unknown => "(unknown)".to_owned(),
        Answer::Stale => "(stale)".to_owned(),
        Answer::Altered => "(altered)".to_owned(),
    }
}

fn standing(moves: &Moves, point: &Point) -> String {
    let busy = point.workers.iter().filter(|worker| **worker != Worker::Idle).count();
    let switch = if point.confirms_on { "" } else { ", switch off" };
    let stages: Vec<_> = point.pike.iter().map(|session| format!("{:?}", session.stage)).collect();
    let facts = &moves.desk.facts[usize::from(point.payout)];
    format!("{}{}; Pike {}; {busy} busy{switch}", facts.state, facts.flag, stages.join("/"))
}

/// What a payout and its session have come to, whatever else is going on.
pub type Rough = (u16, Option<Session>, [bool; 3]);

pub fn rough(moves: &Moves, point: &Point) -> Rough {
    let ours = moves.desk.facts[usize::from(point.payout)].ours;
    let ours = ours.and_then(Slot::at);
    let (confirm, cancel) =
        ours.map_or((false, false), |at| (point.confirm_permits[at], point.cancel_permits[at]));
    (point.payout, ours.map(|at| point.pike[at]), [confirm, cancel, point.lied])
}

/// The same without our number of the payout, which depends on the order of exploring.
pub fn outcome(moves: &Moves, (payout, session, flags): Rough) -> String {
    let facts = &moves.desk.facts[usize::from(payout)];
    format!("{}{} {:?} {session:?} {flags:?}", facts.state, facts.flag, facts.permit)
}
