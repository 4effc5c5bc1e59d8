//! Formulas by hand, against Rust's own arithmetic on random expressions, and on any text.

use gatefold_formula::{DEEPEST, Formula, FormulaError, LONGEST};
use proptest::prelude::*;

/// The result for one row of `a = 1.5`, `b = 2.5`, `c` missing, `d = 0`.
fn one(text: &str) -> Result<f64, FormulaError> {
    let formula = Formula::parse(text)?;
    let value = |name: &String| match name.as_str() {
        "a" => [1.5],
        "b" => [2.5],
        "c" => [f64::NAN],
        _ => [0.0],
    };
    let values: Vec<[f64; 1]> = formula.names().iter().map(value).collect();
    let columns: Vec<&[f64]> = values.iter().map(|value| value.as_slice()).collect();
    Ok(formula.evaluate(1, &columns)?[0])
}

#[track_caller]
fn gives(text: &str, expected: f64) {
    assert_eq!(one(text), Ok(expected), "{text}");
}

#[track_caller]
fn refuses(text: &str, expected: &str) {
    let message = one(text).unwrap_err().to_string();
    assert!(message.contains(expected), "{text}: {message}");
}

#[test]
fn operators_bind_as_in_mathematics() {
    gives("1 + 2 * 3 - 4 / 8", 6.5);
    gives("8 - 4 - 2", 2.0);
    gives("8 / 4 / 2", 1.0);
    gives("2 ^ 3 ^ 2", 512.0);
    gives("-2 ^ 2", -4.0);
    gives("2 ^ -1", 0.5);
    gives("2 ^ -1 ^ 2", 0.5);
    gives("2 ^ -1 * 4", 2.0);
    gives("2 * -3 + 1", -5.0);
    gives("-a * b", -3.75);
    gives("--a", 1.5);
    gives("- -a + +b", 4.0);
    gives("(1 + 2) * (3 - 4)", -3.0);
    gives(" 1e3+2.5E-1 + .5+2. ", 1002.75 + 0.0);
}

#[test]
fn functions_nest_and_take_more_than_two() {
    gives("max(max(1, 2), max(3, min(9, 4)))", 4.0);
    gives("min(a + b, 9, b) * 2", 5.0);
    gives("exp(ln(a)) ", 1.5f64.ln().exp());
    gives("sigmoid(logit(0.25))", 1.0 / (1.0 + (-(0.25f64 / 0.75).ln()).exp()));
    gives("log1p(a) + sqrt(b) - abs(-a)", 1.5f64.ln_1p() + 2.5f64.sqrt() - 1.5);
    gives("a ^ 0.6 * b", 1.5f64.powf(0.6) * 2.5);
}

#[test]
fn names_are_found_once_and_in_order() {
    let formula = Formula::parse("`price (eur)` * ctr + größe ^ ctr + max").unwrap();
    assert_eq!(formula.names(), ["price (eur)", "ctr", "größe", "max"]);
    assert_eq!(formula.text(), "`price (eur)` * ctr + größe ^ ctr + max");
    let columns: [&[f64]; 4] = [&[2.0, 3.0], &[1.0, 0.5], &[5.0, 4.0], &[7.0, 8.0]];
    assert_eq!(formula.evaluate(2, &columns).unwrap(), [14.0, 11.5]);
}

#[test]
fn what_is_missing_or_infinite_is_an_error_that_says_where_and_why() {
    gives("coalesce(c, a)", 1.5);
    gives("coalesce(c, c + 1, 7)", 7.0);
    refuses(
        "a * c",
        "row 0: 'a * c' is not a number where a is 1.5, c is missing (coalesce(c, 0) would take 0 for it)",
    );
    for text in ["min(a, c)", "max(c, a)", "c ^ 0", "1 ^ c", "c * 0"] {
        refuses(text, "c is missing");
    }
    refuses("a / d", "row 0: 'a / d' is infinite where a is 1.5, d is 0");
    refuses("ln(-a)", "is not a number where a is 1.5");
    refuses("10 ^ 400", "row 0: '10 ^ 400' is infinite");
    let formula = Formula::parse("1 / x").unwrap();
    let mut values = vec![1.0; 1000];
    values[777] = 0.0;
    assert!(formula.evaluate(1000, &[&values]).unwrap_err().to_string().starts_with("row 777: "));
    assert!(formula.evaluate(777, &[&values]).is_ok());
    assert!(formula.evaluate(0, &[&[]]).unwrap().is_empty());
}

#[test]
fn a_text_that_is_no_formula_is_refused_with_its_place() {
    refuses("", "expected a number, a column or '(', found the end, at character 1 of ''");
    refuses("a +", "found the end, at character 4 of 'a +'");
    refuses("a b", "expected an operator, at character 3");
    refuses("(a", "expected an operator or ')' after '(', found the end, at character 3");
    refuses("a)", "')' closes nothing, at character 2");
    refuses("max(a)", "max takes two arguments or more, at character 6");
    refuses("exp(a, b)", "exp takes no further argument, at character 6");
    refuses("(a, b)", "'(' takes no further argument, at character 3");
    refuses("system(a)", "there is no function 'system'; there are exp, ln,");
    refuses("größe * system(a)", "at character 9");
    refuses("1.2.3", "expected an operator, at character 4");
    refuses(".", "'.' is no number, at character 1");
    refuses("1e999", "'1e999' is no number");
    refuses("a; b", "expected an operator, at character 2");
    refuses("a ** b", "found '*', at character 4");
    refuses("``", "the back quotes hold no name");
    refuses("`a", "this back quote is not closed");
    refuses(&"a+".repeat(LONGEST), "the formula has 2000 bytes, at most 1000 are accepted");
    for (open, close) in [("(", ")"), ("-", ""), ("2^", ""), ("abs(", ")")] {
        let text = format!("{}a{}", open.repeat(DEEPEST), close.repeat(DEEPEST));
        refuses(&text, "more than 32 levels stand in each other");
        let text = format!("{}a{}", open.repeat(DEEPEST - 1), close.repeat(DEEPEST - 1));
        assert!(Formula::parse(&text).is_ok(), "{text}");
    }
}

/// An expression, to be written and to be computed.
#[derive(Clone, Debug)]
enum Node {
    Number(f64),
    A,
    B,
    Negate(Box<Node>),
    Two(char, Box<Node>, Box<Node>),
}

impl Node {
    fn value(&self, a: f64, b: f64) -> f64 {
        match self {
            Node::Number(number) => *number,
            Node::A => a,
            Node::B => b,
            Node::Negate(node) => -node.value(a, b),
            Node::Two(operator, left, right) => {
                let (left, right) = (left.value(a, b), right.value(a, b));
                match operator {
                    '+' => left + right,
                    '-' => left - right,
                    '*' => left * right,
                    _ => left / right,
                }
            }
        }
    }

    /// With only the parentheses that are needed.
    fn write(&self, out: &mut String, least: u8) {
        match self {
            Node::Number(number) => out.push_str(&number.to_string()),
            Node::A => out.push('a'),
            Node::B => out.push('b'),
            Node::Negate(node) => {
                let open = least > 5;
                if open {
                    out.push('(');
                }
                out.push('-');
                node.write(out, 5);
                if open {
                    out.push(')');
                }
            }
            Node::Two(operator, left, right) => {
                let own = if "+-".contains(*operator) { 1 } else { 3 };
                if own < least {
                    out.push('(');
                }
                left.write(out, own);
                out.push_str(&format!(" {operator} "));
                right.write(out, own + 1);
                if own < least {
                    out.push(')');
                }
            }
        }
    }
}

fn node() -> impl Strategy<Value = Node> {
    let leaf =
        prop_oneof![(0u8..20).prop_map(|n| Node::Number(f64::from(n) / 4.0)), Just(Node::A), Just(Node::B)];
    leaf.prop_recursive(5, 40, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|node| Node::Negate(Box::new(node))),
            (prop::sample::select(vec!['+', '-', '*', '/']), inner.clone(), inner)
                .prop_map(|(operator, left, right)| Node::Two(operator, Box::new(left), Box::new(right))),
        ]
    })
}

proptest! {
    #[test]
    fn random_arithmetic_is_what_rust_computes(node in node(), a in -5.0..5.0f64, b in 0.1..5.0f64) {
        let mut text = String::new();
        node.write(&mut text, 0);
        prop_assume!(text.len() <= LONGEST);
        let formula = Formula::parse(&text).unwrap();
        let columns: Vec<Vec<f64>> =
            formula.names().iter().map(|name| vec![if name == "a" { a } else { b }; 300]).collect();
        let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
        let expected = node.value(a, b);
        match formula.evaluate(300, &columns) {
            Ok(found) => prop_assert_eq!(found, vec![expected; 300], "{}", text),
            Err(_) => prop_assert!(!expected.is_finite(), "{}", text),
        }
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,60}") {
        let _ = one(&text);
    }

    #[test]
    fn no_text_of_its_own_words_panics(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "a", "c", "1", ".", "e", "1e", "2e-", "(", ")", ",", "+", "-", "*", "/", "^", "max", "exp", "`",
                "coalesce(", "é", " ",
            ]),
            0..60,
        )
    ) {
        let _ = one(&words.concat());
    }
}
