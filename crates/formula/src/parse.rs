//! Text to steps: operators by how closely they bind (V. Pratt, "Top down operator precedence",
//! POPL 1973), written out as they are read, which gives postfix order.

use crate::{
    DEEPEST, FormulaError, LONGEST,
    step::{One, Step, Two},
};

/// How closely a sign binds what follows it: more than `*`, less than `^`.
const SIGN: u8 = 5;

/// The steps of a formula and the columns that they name.
pub(crate) fn parse(text: &str) -> Result<(Vec<Step>, Vec<String>), FormulaError> {
    if text.len() > LONGEST {
        return Err(FormulaError::Long { bytes: text.len() });
    }
    let mut parser = Parser { text, at: 0, depth: 0, steps: Vec::new(), names: Vec::new() };
    parser.expression(0)?;
    match parser.peek() {
        None => Ok((parser.steps, parser.names)),
        Some(')') => Err(parser.fail("')' closes nothing")),
        Some(_) => Err(parser.fail("expected an operator")),
    }
}

struct Parser<'a> {
    text: &'a str,
    /// Bytes read.
    at: usize,
    depth: usize,
    steps: Vec<Step>,
    names: Vec<String>,
}

impl Parser<'_> {
    /// Reads operands and the operators between them that bind at least as closely as `least`.
    fn expression(&mut self, least: u8) -> Result<(), FormulaError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.fail(&format!("more than {DEEPEST} levels stand in each other")));
        }
        self.operand()?;
        while let Some((operator, left, right)) = self.peek().and_then(binary) {
            if left < least {
                break;
            }
            self.advance();
            self.expression(right)?;
            self.steps.push(Step::Two(operator));
        }
        self.depth -= 1;
        Ok(())
    }

    fn operand(&mut self) -> Result<(), FormulaError> {
        match self.peek() {
            None => Err(self.fail("expected a number, a column or '(', found the end")),
            Some('(') => {
                self.advance();
                self.expression(0)?;
                self.close("'('")
            }
            Some('-') => {
                self.advance();
                self.expression(SIGN)?;
                self.steps.push(Step::One(One::Negate));
                Ok(())
            }
            Some('+') => {
                self.advance();
                self.expression(SIGN)
            }
            Some('`') => self.quoted(),
            Some(digit) if digit.is_ascii_digit() || digit == '.' => self.number(),
            Some(letter) if letter.is_alphabetic() || letter == '_' => self.word(),
            Some(other) => Err(self.fail(&format!("expected a number, a column or '(', found '{other}'"))),
        }
    }

    fn number(&mut self) -> Result<(), FormulaError> {
        let bytes = self.text.as_bytes();
        let mut end = self.at;
        let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        end += digits(end);
        if bytes.get(end) == Some(&b'.') {
            end += 1 + digits(end + 1);
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            let exponent = digits((end + 1 + sign).min(bytes.len()));
            if exponent > 0 {
                end += 1 + sign + exponent;
            }
        }
        let written = &self.text[self.at..end];
        match written.parse::<f64>() {
            Ok(number) if number.is_finite() => {
                self.at = end;
                self.steps.push(Step::Number(number));
                Ok(())
            }
            _ => Err(self.fail(&format!("'{written}' is no number"))),
        }
    }

    /// A column in back quotes.
    fn quoted(&mut self) -> Result<(), FormulaError> {
        let rest = &self.text[self.at + 1..];
        match rest.split_once('`') {
            Some((name, _)) if !name.is_empty() => {
                self.column(name.to_owned());
                self.at += name.len() + 2;
                Ok(())
            }
            Some(_) => Err(self.fail("the back quotes hold no name")),
            None => Err(self.fail("this back quote is not closed")),
        }
    }

    /// A column, or a function and its arguments.
    fn word(&mut self) -> Result<(), FormulaError> {
        let start = self.at;
        let rest = &self.text[start..];
        let end = rest.find(|letter: char| !(letter.is_alphanumeric() || letter == '_'));
        let word = rest[..end.unwrap_or(rest.len())].to_owned();
        self.at += word.len();
        if self.peek() != Some('(') {
            self.column(word);
            return Ok(());
        }
        self.advance();
        let one = One::NAMED.iter().find(|(name, _)| *name == word);
        let two = Two::NAMED.iter().find(|(name, _)| *name == word);
        match (one, two) {
            (Some((_, one)), _) => {
                self.expression(0)?;
                self.close(&word)?;
                self.steps.push(Step::One(*one));
            }
            (_, Some((_, two))) => {
                self.expression(0)?;
                let mut arguments = 1;
                while self.peek() == Some(',') {
                    self.advance();
                    self.expression(0)?;
                    self.steps.push(Step::Two(*two));
                    arguments += 1;
                }
                if arguments == 1 {
                    return Err(self.fail(&format!("{word} takes two arguments or more")));
                }
                self.close(&word)?;
            }
            _ => {
                self.at = start;
                let names =
                    One::NAMED.iter().map(|(name, _)| *name).chain(Two::NAMED.iter().map(|(name, _)| *name));
                let names = names.collect::<Vec<_>>().join(", ");
                return Err(self.fail(&format!("there is no function '{word}'; there are {names}")));
            }
        }
        Ok(())
    }

    fn column(&mut self, name: String) {
        let known = self.names.iter().position(|known| *known == name);
        let index = known.unwrap_or_else(|| {
            self.names.push(name);
            self.names.len() - 1
        });
        self.steps.push(Step::Column(index));
    }

    fn close(&mut self, opened: &str) -> Result<(), FormulaError> {
        match self.peek() {
            Some(')') => {
                self.advance();
                Ok(())
            }
            Some(',') => Err(self.fail(&format!("{opened} takes no further argument"))),
            found => {
                let found = found.map_or_else(|| "the end".to_owned(), |found| format!("'{found}'"));
                Err(self.fail(&format!("expected an operator or ')' after {opened}, found {found}")))
            }
        }
    }

    /// The next character that is no blank.
    fn peek(&mut self) -> Option<char> {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        self.text[self.at..].chars().next()
    }

    fn advance(&mut self) {
        self.at += self.text[self.at..].chars().next().map_or(0, char::len_utf8);
    }

    fn fail(&self, problem: &str) -> FormulaError {
        let at = 1 + self.text[..self.at].chars().count();
        FormulaError::Text { text: self.text.to_owned(), at, problem: problem.to_owned() }
    }
}

/// A binary operator, how closely it binds what stands to its left, and what to its right: the same
/// or more to the left reads from right to left.
fn binary(letter: char) -> Option<(Two, u8, u8)> {
    match letter {
        '+' => Some((Two::Add, 1, 2)),
        '-' => Some((Two::Subtract, 1, 2)),
        '*' => Some((Two::Multiply, 3, 4)),
        '/' => Some((Two::Divide, 3, 4)),
        // A sign may follow: what it binds is less close, and still belongs to the power.
        '^' => Some((Two::Power, 6, 6)),
        _ => None,
    }
}
