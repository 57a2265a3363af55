"""The contract: two spellings of the schemas agree, and shards are held to them."""

from pathlib import Path

import pyarrow as pa
import pytest

from analysis import contract
from analysis.compute import study
from tests.analysis import synthetic


@pytest.mark.parametrize("table", contract.TABLES)
def test_schemas_agree_with_an_independent_spelling(table: str) -> None:
    assert contract.SCHEMAS[table].equals(synthetic.schema(table))
    assert contract.SCHEMAS[table].metadata == {b"schema_version": b"1"}


@pytest.mark.parametrize("table", contract.TABLES)
def test_every_column_has_a_meaning_and_every_key_is_a_column(table: str) -> None:
    for field in contract.SCHEMAS[table]:
        assert field.metadata[b"meaning"]
    assert set(contract.KEYS[table]) <= set(contract.SCHEMAS[table].names)


def test_nullable_columns_are_those_of_the_design() -> None:
    runs = """sharing attention init init_strength trainable own_weight
        architecture_lr transition_lr attention_lr genotype_normal genotype_reduce
        transition_displacement benchmark_valid benchmark_test tune_trial backend gpu attempts"""
    nullable = {t: [c.name for c in cs if c.nullable] for t, cs in contract.COLUMNS.items()}
    assert nullable == {
        "runs": runs.split(),
        "epochs": ["transition_displacement", "hessian_eigenvalue"],
        "edges": ["edge_weight"],
        "links": [],
    }


def test_check_names_table_and_column() -> None:
    row = {"run_id": "a", "epoch": 0, "cell": "normal", "source": 0, "target": 1, "inner": False}
    row |= {"operations": ["x"], "probabilities": [1.0]}
    good = pa.Table.from_pylist([row], schema=contract.EDGES)
    contract.check("edges", good)
    with pytest.raises(ValueError, match=r"edges\.cell holds a null"):
        contract.check("edges", pa.Table.from_pylist([row | {"cell": None}], contract.EDGES))
    with pytest.raises(ValueError, match=r"edges: no column inner"):
        contract.check("edges", good.drop_columns(["inner"]))
    longer = good.set_column(1, "epoch", good["epoch"].cast(pa.int64()))
    with pytest.raises(ValueError, match=r"edges\.epoch is int64, not int32"):
        contract.check("edges", longer)


def test_the_documentation_lists_every_column() -> None:
    """`python -c "from analysis import contract; print(contract.data_dictionary(), end='')"`"""
    text = (Path(__file__).parents[2] / "docs" / "results.md").read_text()
    assert text == contract.data_dictionary()


def test_the_data_dictionary_is_a_table_with_every_column_and_quantity() -> None:
    table = study._data_dictionary()
    assert table.columns.tolist() == ["table", "column", "type", "may_be_null", "meaning"]
    for name, columns in contract.COLUMNS.items():
        rows = table[table["table"] == name]
        assert rows["column"].tolist() == [c.name for c in columns]
        assert rows["type"].tolist() == [str(f.type) for f in contract.SCHEMAS[name]]
        assert rows["may_be_null"].tolist() == [c.nullable for c in columns]
    quantities = table.loc[table["table"] == "stability", "column"]
    assert quantities.is_unique
    assert {"dependence_transfer", "operation_agreement", "derived_accuracy"} <= set(quantities)
    assert table["meaning"].str.len().gt(0).all()
