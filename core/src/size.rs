//! Sizes of volumes, as Kubernetes writes quantities.

/// What a number may be followed by, and how many bytes it stands for.
const UNITS: [(&str, f64); 13] = [
    ("", 1.0),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
];

/// How many bytes a size above zero is, such as `10Gi` or `1.5T`; `None` where the text is none.
pub(crate) fn bytes(text: &str) -> Option<f64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let is_number = number.len() <= 18
        && number.starts_with(|c: char| c.is_ascii_digit())
        && number.ends_with(|c: char| c.is_ascii_digit());
    let number: f64 = number.parse().ok().filter(|number| is_number && *number > 0.0)?;
    UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| number * factor)
}

/// Whether `text` is a size above zero.
pub(crate) fn is_size(text: &str) -> bool {
    bytes(text).is_some()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("10Gi", Some(10_737_418_240.0))]
    #[case("1.5k", Some(1500.0))]
    #[case("1", Some(1.0))]
    #[case("0", None)]
    #[case("0.0Gi", None)]
    #[case("10GB", None)]
    #[case("-1Gi", None)]
    #[case("1.Gi", None)]
    #[case(".5Gi", None)]
    #[case("1m", None)]
    #[case("1e3", None)]
    #[case("", None)]
    #[case("é", None)]
    fn a_size_is_read_as_kubernetes_reads_it(#[case] text: &str, #[case] expected: Option<f64>) {
        assert_eq!(bytes(text), expected);
    }
}
