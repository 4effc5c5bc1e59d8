//! Encoded features of some requests and their candidates.

/// Encoded features: one column per feature in schema order.
///
/// User and context columns have `requests` rows, item columns `candidates` rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeatureBatch {
    /// Number of requests.
    pub requests: usize,
    /// Number of candidates over all requests.
    pub candidates: usize,
    /// Request row of each candidate, never falling, so that the candidates of a request stand
    /// together. Length `candidates`, values below `requests`.
    pub request_of: Vec<u32>,
    /// One column a feature.
    pub columns: Vec<FeatureColumn>,
}

/// One encoded feature.
#[derive(Clone, Debug, PartialEq)]
pub enum FeatureColumn {
    /// `rows × width` codes, row by row; `width` is 1 for a categorical feature and `max_len` for
    /// a sequence, whose valid codes come first, then zeros.
    Codes {
        /// Codes a row.
        width: usize,
        /// The codes.
        data: Vec<i32>,
    },
    /// One number a row.
    Numbers(Vec<f32>),
}

impl FeatureColumn {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        match self {
            FeatureColumn::Codes { width, data } => data.len() / (*width).max(1),
            FeatureColumn::Numbers(data) => data.len(),
        }
    }

    /// A column of the rows `rows`, in that order.
    pub fn take(&self, rows: &[u32]) -> FeatureColumn {
        match self {
            FeatureColumn::Codes { width: 1, data } => {
                FeatureColumn::Codes { width: 1, data: rows.iter().map(|&row| data[row as usize]).collect() }
            }
            FeatureColumn::Codes { width, data } => {
                let mut taken = Vec::with_capacity(rows.len() * width);
                for &row in rows {
                    taken.extend_from_slice(&data[row as usize * width..(row as usize + 1) * width]);
                }
                FeatureColumn::Codes { width: *width, data: taken }
            }
            FeatureColumn::Numbers(data) => {
                FeatureColumn::Numbers(rows.iter().map(|&row| data[row as usize]).collect())
            }
        }
    }

    /// Appends the rows of `other`, which must be of the same kind and width.
    ///
    /// # Panics
    /// When kind or width differ: both must come from the same schema.
    pub fn append(&mut self, other: &FeatureColumn) {
        match (self, other) {
            (
                FeatureColumn::Codes { width, data },
                FeatureColumn::Codes { width: other_width, data: other_data },
            ) => {
                assert_eq!(width, other_width, "columns of one feature have one width");
                data.extend_from_slice(other_data);
            }
            (FeatureColumn::Numbers(data), FeatureColumn::Numbers(other)) => {
                data.extend_from_slice(other);
            }
            _ => panic!("columns of one feature have one kind"),
        }
    }
}

impl FeatureBatch {
    /// Appends the requests of `other`, which must come from the same schema.
    pub fn append(&mut self, other: &FeatureBatch) {
        if self.columns.is_empty() {
            *self = other.clone();
            return;
        }
        let first = self.requests as u32;
        self.request_of.extend(other.request_of.iter().map(|request| request + first));
        self.requests += other.requests;
        self.candidates += other.candidates;
        for (column, more) in self.columns.iter_mut().zip(&other.columns) {
            column.append(more);
        }
    }
}
