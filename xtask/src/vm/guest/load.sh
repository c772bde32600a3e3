#!/bin/sh
ip -br link; echo ok - nothing
