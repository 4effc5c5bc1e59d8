//! The values of a graph's parameters.

use gatefold_graph::{Init, ParamId, Parameter};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::{error::ExecError, memory::Numbers};

/// Numbers that one task draws; even, so that it draws whole pairs.
const TASK_NUMBERS: usize = 1 << 16;

/// Values of parameters, in the order of the graph's [`ParamId`]s, each row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters {
    declared: Vec<Parameter>,
    values: Vec<Numbers>,
}

impl Parameters {
    /// Draws the first values. Those of one parameter depend on the seed, on its name and on its
    /// declaration alone, so they are the same in every graph that declares it, and for any number
    /// of threads. Row 0 of a table is zero.
    pub fn initialise(declared: &[Parameter], seed: u64) -> Self {
        let values = declared.iter().map(|parameter| first_values(parameter, seed)).collect();
        Self { declared: declared.to_vec(), values }
    }

    /// Takes values that were stored or trained elsewhere, in the order of `declared`.
    ///
    /// # Errors
    /// Where a value is missing or does not have the declared number of elements.
    pub fn from_values(declared: &[Parameter], values: Vec<Vec<f32>>) -> Result<Self, ExecError> {
        for (index, parameter) in declared.iter().enumerate() {
            let (expected, expected_len) = (parameter.name.clone(), len(parameter));
            let found = match values.get(index) {
                Some(value) if value.len() == expected_len => continue,
                Some(value) => format!("{} numbers", value.len()),
                None => "nothing".into(),
            };
            return Err(ExecError::WrongParameter { index, expected, expected_len, found });
        }
        let values = values.into_iter().map(Numbers::from).collect();
        Ok(Self { declared: declared.to_vec(), values })
    }

    /// Takes in the parameters that `declared` has after these, with their first values.
    ///
    /// # Errors
    /// Where `declared` does not begin with these.
    pub fn extend(&mut self, declared: &[Parameter], seed: u64) -> Result<(), ExecError> {
        for (index, own) in self.declared.iter().enumerate() {
            if declared.get(index) != Some(own) {
                let (expected, expected_len) = (own.name.clone(), len(own));
                let found = declared.get(index).map_or("nothing".into(), |other| format!("`{}`", other.name));
                return Err(ExecError::WrongParameter { index, expected, expected_len, found });
            }
        }
        for parameter in &declared[self.declared.len()..] {
            self.values.push(first_values(parameter, seed));
            self.declared.push(parameter.clone());
        }
        Ok(())
    }

    /// The declarations, by [`ParamId`].
    pub fn declared(&self) -> &[Parameter] {
        &self.declared
    }

    /// A parameter's value.
    ///
    /// # Panics
    /// When the id is not of these parameters.
    pub fn get(&self, parameter: ParamId) -> &[f32] {
        &self.values[parameter.0]
    }

    /// A parameter's value, to be changed.
    ///
    /// # Panics
    /// When the id is not of these parameters.
    pub fn get_mut(&mut self, parameter: ParamId) -> &mut [f32] {
        &mut self.values[parameter.0]
    }

    /// The value of a parameter by name.
    pub fn by_name(&self, name: &str) -> Option<&[f32]> {
        let index = self.declared.iter().position(|parameter| parameter.name == name)?;
        Some(&self.values[index])
    }

    /// The value of a parameter by name, to be changed.
    pub fn by_name_mut(&mut self, name: &str) -> Option<&mut [f32]> {
        let index = self.declared.iter().position(|parameter| parameter.name == name)?;
        Some(&mut self.values[index])
    }

    /// All values, by [`ParamId`].
    pub(crate) fn values_mut(&mut self) -> &mut [Numbers] {
        &mut self.values
    }

    /// Declarations and values, by [`ParamId`].
    pub fn iter(&self) -> impl Iterator<Item = (&Parameter, &[f32])> {
        self.declared.iter().zip(self.values.iter().map(|values| &**values))
    }

    /// Declarations and values, to be changed, by [`ParamId`].
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&Parameter, &mut [f32])> {
        self.declared.iter().zip(self.values.iter_mut().map(|values| &mut **values))
    }
}

/// Number of elements of a parameter.
pub(crate) fn len(parameter: &Parameter) -> usize {
    parameter.dims.iter().product()
}

/// Number `i` comes from word `i` of the parameter's stream, or words `i` and `i + 1` for a pair of
/// normal numbers, so that every part can be drawn by itself.
fn first_values(parameter: &Parameter, seed: u64) -> Numbers {
    let mut values = Numbers::zeros(len(parameter));
    let mut draw = |fill: &(dyn Fn(&mut ChaCha8Rng, &mut [f32]) + Sync)| {
        values.par_chunks_mut(TASK_NUMBERS).enumerate().for_each(|(task, values)| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            random.set_stream(name_hash(&parameter.name));
            random.set_word_pos((task * TASK_NUMBERS) as u128);
            fill(&mut random, values);
        });
    };
    match &parameter.init {
        Init::Zeros => {}
        Init::GlorotUniform => {
            let fans: usize = parameter.dims.iter().sum();
            let bound = (6.0 / fans.max(1) as f32).sqrt();
            draw(&|random, values| {
                values.iter_mut().for_each(|value| *value = bound * (2.0 * open_unit(random) - 1.0));
            });
        }
        Init::Normal(deviation) => draw(&|random, values| {
            for pair in values.chunks_mut(2) {
                let normals = two_normals(random);
                pair.iter_mut().zip(normals).for_each(|(value, normal)| *value = *deviation * normal);
            }
        }),
        Init::Values(given) => values.copy_from_slice(given),
    }
    if parameter.table {
        let width = parameter.dims.get(1).copied().unwrap_or(0);
        values[..width].fill(0.0);
    }
    values
}

/// Uniform in (0, 1), from 23 random bits.
fn open_unit(random: &mut ChaCha8Rng) -> f32 {
    ((random.next_u32() >> 9) as f32 + 0.5) / (1 << 23) as f32
}

/// Two independent standard normal numbers (Box and Muller, 1958).
fn two_normals(random: &mut ChaCha8Rng) -> [f32; 2] {
    let radius = (-2.0 * open_unit(random).ln()).sqrt();
    let (sine, cosine) = (std::f32::consts::TAU * open_unit(random)).sin_cos();
    [radius * cosine, radius * sine]
}

/// FNV-1a, 64 bits.
fn name_hash(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter(name: &str, dims: &[usize], init: Init, table: bool) -> Parameter {
        Parameter { name: name.into(), dims: dims.to_vec(), init, table }
    }

    #[test]
    fn a_table_has_the_asked_deviation_and_a_zero_row_0() {
        let declared = [parameter("embedding.user", &[5_000, 16], Init::Normal(0.05), true)];
        let parameters = Parameters::initialise(&declared, 7);
        let (padding, rows) = parameters.get(ParamId(0)).split_at(16);
        assert_eq!(padding, [0.0; 16]);
        let count = rows.len() as f64;
        let mean = rows.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
        let variance = rows.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>() / count;
        // Standard errors with 80,000 numbers: 0.00018 of the mean, 0.00013 of the deviation.
        assert!(mean.abs() < 0.001, "{mean}");
        assert!((variance.sqrt() - 0.05).abs() < 0.0006, "{}", variance.sqrt());
        let beyond = rows.iter().filter(|value| value.abs() > 0.1).count() as f64 / count;
        assert!((beyond - 0.0455).abs() < 0.004, "beyond two deviations: {beyond}");
    }

    #[test]
    fn a_matrix_fills_the_glorot_range() {
        let parameters = Parameters::initialise(&[parameter("w", &[30, 20], Init::GlorotUniform, false)], 1);
        let largest =
            parameters.get(ParamId(0)).iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let bound = (6.0_f32 / 50.0).sqrt();
        assert!(largest <= bound && largest > 0.97 * bound, "{largest} in {bound}");
    }

    #[test]
    fn values_depend_on_seed_and_name_but_not_on_neighbours() {
        let w = parameter("w", &[4, 4], Init::GlorotUniform, false);
        let v = parameter("v", &[4, 4], Init::GlorotUniform, false);
        let both = Parameters::initialise(&[v.clone(), w.clone()], 3);
        let alone = Parameters::initialise(std::slice::from_ref(&w), 3);
        assert_eq!(both.by_name("w"), alone.by_name("w"));
        assert_ne!(both.by_name("v"), both.by_name("w"));
        assert_ne!(Parameters::initialise(&[w], 4).by_name("w"), alone.by_name("w"));
    }

    /// The stream is cut into parts, which must not show in what is drawn.
    #[test]
    fn every_part_continues_the_stream() {
        let count = 2 * TASK_NUMBERS + 3;
        for init in [Init::Normal(1.0), Init::GlorotUniform] {
            let parameters = Parameters::initialise(&[parameter("w", &[count], init.clone(), false)], 9);
            let mut random = ChaCha8Rng::seed_from_u64(9);
            random.set_stream(name_hash("w"));
            let bound = (6.0 / count as f32).sqrt();
            let mut expected: Vec<f32> = match init {
                Init::Normal(_) => (0..count.div_ceil(2)).flat_map(|_| two_normals(&mut random)).collect(),
                _ => (0..count).map(|_| bound * (2.0 * open_unit(&mut random) - 1.0)).collect(),
            };
            expected.truncate(count);
            assert!(parameters.get(ParamId(0)) == expected, "{init:?}");
        }
    }

    #[test]
    fn parameters_that_come_after_are_taken_in() {
        let first = parameter("w", &[2], Init::Values(vec![1.0, 2.0]), false);
        let more = parameter("v", &[], Init::Values(vec![3.0]), false);
        let mut parameters = Parameters::initialise(std::slice::from_ref(&first), 1);
        parameters.by_name_mut("w").unwrap()[0] = 7.0;
        parameters.extend(&[first.clone(), more.clone()], 1).unwrap();
        assert_eq!(parameters.by_name("w"), Some(&[7.0, 2.0][..]));
        assert_eq!(parameters.by_name("v"), Some(&[3.0][..]));
        let error = parameters.extend(&[more, first], 1).unwrap_err();
        assert_eq!(error.to_string(), "parameter 0 must be `w` with 2 numbers, found `v`");
    }

    #[test]
    fn stored_values_must_fit_the_declaration() {
        let declared = [parameter("w", &[2, 3], Init::Zeros, false)];
        let error = Parameters::from_values(&declared, vec![vec![0.0; 5]]).unwrap_err();
        assert_eq!(error.to_string(), "parameter 0 must be `w` with 6 numbers, found 5 numbers");
        let error = Parameters::from_values(&declared, Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "parameter 0 must be `w` with 6 numbers, found nothing");
        assert!(Parameters::from_values(&declared, vec![vec![1.0; 6]]).is_ok());
    }
}
