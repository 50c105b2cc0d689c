"""The tests, in folders that mirror the packages; `support` holds what is no test."""
