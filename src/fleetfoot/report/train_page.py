def write_page(outcome, dataset, settings): pass
