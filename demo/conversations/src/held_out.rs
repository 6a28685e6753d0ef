//! Questions that are never trained, and what a right answer to them is.

use crate::conversation::Turn;
use crate::family::Family;
use crate::judge::Judge;
use crate::random::Random;
use crate::words::normalized;

/// Of a table, each pattern is asked about so many rows.
const ROWS: usize = 4;
/// A follow-up is asked after so many of the families that it can follow.
const PREDECESSORS: usize = 2;
/// Each such question that could stand alone is also asked after an unrelated turn.
const EVERY: usize = 5;

/// A question in a phrasing that no conversation of the corpus has.
#[derive(Clone, Debug)]
pub struct HeldOut {
    /// What was said before; often nothing.
    pub before: Vec<Turn>,
    /// The last turn, which is to be answered.
    pub question: String,
    /// The family that it is about.
    pub family: String,
    judged_as: String,
    /// The only right answers, where these depend on the row of a table.
    row_answers: Option<Vec<String>>,
}

impl HeldOut {
    /// Whether `answer` is one of the family's; in a table, that of the very row. Families that are judged together count as
    /// one.
    #[must_use]
    pub fn is_right(&self, judge: &Judge, answer: &str) -> bool {
        match &self.row_answers {
            Some(answers) => answers.iter().any(|right| normalized(right) == normalized(answer)),
            None => judge.family_of(answer) == Some(&self.judged_as),
        }
    }

    /// A right answer.
    #[must_use]
    pub fn example<'a>(&'a self, families: &'a [Family]) -> String {
        match &self.row_answers {
            Some(answers) => answers[0].clone(),
            None => families
                .iter()
                .find(|family| family.name == self.family)
                .and_then(|family| family.answers().next())
                .unwrap_or_default(),
        }
    }
}

pub(crate) fn all(families: &[Family]) -> Vec<HeldOut> {
    let mut random = Random::new(3);
    let mut cases = Vec::new();
    let greeting = families.iter().position(|family| family.name == "hello").unwrap_or(0);
    for family in families {
        for (number, pattern) in family.held_out.iter().enumerate() {
            for row in spread(family.rows.len(), ROWS, number) {
                let cells = &family.rows[row];
                let answers = family.answers.iter().map(|answer| answer.first(cells));
                let case = HeldOut {
                    before: Vec::new(),
                    question: pattern.sample(cells, &mut random),
                    family: family.name.clone(),
                    judged_as: family.judged_as.clone(),
                    row_answers: family.has_row_answers.then(|| answers.collect()),
                };
                if family.is_follow_up() {
                    cases.extend(spread(family.after.len(), PREDECESSORS, number).map(|index| {
                        let before = &families[family.after[index]];
                        let row = if family.same_row { row } else { random.below(before.rows.len()) };
                        HeldOut { before: vec![turn(before, row, &mut random)], ..case.clone() }
                    }));
                    continue;
                }
                if cases.len() % EVERY == 0 && !family.opening && !family.unless.contains(&greeting) {
                    let before = vec![turn(&families[greeting], 0, &mut random)];
                    cases.push(HeldOut { before, ..case.clone() });
                }
                cases.push(case);
            }
        }
    }
    cases
}

/// Up to `count` of `0..length`, far apart, other ones for each `number`.
fn spread(length: usize, count: usize, number: usize) -> impl Iterator<Item = usize> {
    let count = count.min(length);
    (0..count).map(move |step| (step * length / count + number) % length)
}

fn turn(family: &Family, row: usize, random: &mut Random) -> Turn {
    let row = &family.rows[row];
    Turn {
        user: family.ask(row, random),
        assistant: family.answers[0].first(row),
        family: family.name.clone(),
    }
}
