"""How estimators look in a notebook: a link to the documentation, and what each parameter means."""

import html
import inspect
import re

import pytest
from data import classifier, make_table, needs
from numpydoc.docscrape import ClassDoc
from sklearn.pipeline import make_pipeline

from skdnn import DeepBinaryClassifier, TabularEncoder

DOCUMENTATION = DeepBinaryClassifier._doc_link_template

has_tooltips = needs("scikit-learn>=1.8", "tooltips of parameters")


def fitted():
    return classifier(max_iter=1).fit(*make_table())


ESTIMATORS = {
    "classifier": (DeepBinaryClassifier, DeepBinaryClassifier),
    "fitted classifier": (DeepBinaryClassifier, fitted),
    "encoder": (TabularEncoder, TabularEncoder),
    "fitted encoder": (TabularEncoder, lambda: TabularEncoder().fit(make_table()[0])),
    "pipeline": (DeepBinaryClassifier, lambda: make_pipeline(TabularEncoder(), classifier())),
}
each_estimator = pytest.mark.parametrize(("kind", "make"), ESTIMATORS.values(), ids=ESTIMATORS)


def read_tooltips(shown):
    """Return what is shown of each parameter, by its name."""
    pattern = r'href="([^"]*)">\s*(\w+)\s*<span class="param-doc-description"[^>]*>(.*?)</span>'
    return {
        name: (link, " ".join(html.unescape(re.sub(r"<br>", " ", text)).split()))
        for link, name, text in re.findall(pattern, shown, re.DOTALL)
    }


@each_estimator
def test_view_links_to_the_documentation(kind, make):
    shown = make()._repr_html_()
    assert f'href="{DOCUMENTATION}"' in shown
    assert f"Documentation for {kind.__name__}" in shown


@has_tooltips
@each_estimator
def test_each_parameter_has_what_its_docstring_says(kind, make):
    tooltips = read_tooltips(make()._repr_html_())
    entries = {entry.name: entry for entry in ClassDoc(kind)["Parameters"]}
    assert list(entries) == list(inspect.signature(kind).parameters)
    for name, entry in entries.items():
        link, text = tooltips[name]
        assert text == " ".join(f"{name}: {entry.type} {' '.join(entry.desc)}".split())
        assert link.startswith(f"{DOCUMENTATION}#:~:text={name},-")
        assert len(entry.desc) >= 1


def test_a_class_of_ones_own_links_nowhere():
    class Own(DeepBinaryClassifier):
        """A subclass elsewhere."""

    assert Own()._get_doc_link() == ""
    assert "Documentation for Own" not in Own()._repr_html_()
