# Everything runs in a virtual environment that the first target makes by itself.
#   make demo     a first picture: sample data, a small SPADE trained on the CPU, its results (some minutes on two cores)
#   make test     all tests (eight to twelve minutes on two cores)
#   make lint     ruff: rules and format
#   make prove    longer proofs; those on photos need SPADE_REAL_DATA
PYTHON ?= python3
VENV ?= .venv
PY = $(VENV)/bin/python

.PHONY: demo test lint prove clean

demo: $(VENV)/.installed
	$(PY) datasets/make_sample_landscapes.py --out datasets/sample
	$(PY) train.py --name demo --dataset_mode custom --label_nc 14 --class_table sample \
	  --label_dir datasets/sample/train_label --image_dir datasets/sample/train_img \
	  --instance_dir datasets/sample/train_inst --load_size 96 --crop_size 96 --batchSize 4 --use_vae \
	  --ngf 8 --nef 8 --ndf 16 --no_vgg_loss --init_variance 1 \
	  --lr 0.001 --niter 2 --niter_decay 2 --gpu_ids -1 --overwrite
	$(PY) test.py --name demo --label_dir datasets/sample/val_label --image_dir datasets/sample/val_img \
	  --instance_dir datasets/sample/val_inst --gpu_ids -1
	$(PY) test.py --name demo --label_dir datasets/sample/val_label --instance_dir datasets/sample/val_inst \
	  --num_samples 6 --how_many 24 --results_dir results/styles --gpu_ids -1
	$(PY) evaluate.py train-segmenter --out results/segmenter.pth --dataset_mode custom --label_nc 14 \
	  --class_table sample --label_dir datasets/sample/train_label --image_dir datasets/sample/train_img \
	  --val_label_dir datasets/sample/val_label --val_image_dir datasets/sample/val_img \
	  --load_size 96 --crop_size 96 --epochs 4 --gpu_ids -1 --overwrite
	$(PY) evaluate.py --name demo --label_dir datasets/sample/val_label --image_dir datasets/sample/val_img \
	  --instance_dir datasets/sample/val_inst --segmenter results/segmenter.pth --real --shuffled --no_fid \
	  --at_least 0.7 --gpu_ids -1
	@echo
	@echo "Open in a browser:"
	@echo "  results/demo/test_latest/index.html             layouts it had never seen, roughly in the style of their photos"
	@echo "  results/styles/demo/test_latest/index.html      the same in six random styles each"
	@echo "  results/demo/evaluation_test_latest/index.html  how well their layouts can be read back"
	@echo "  checkpoints/demo/web/index.html                 how training went: loss curves and samples"

test: $(VENV)/.installed-dev
	$(PY) -m pytest -n auto --dist worksteal

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

prove: $(VENV)/.installed-dev
	$(PY) -m pytest -m prove -s

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "Python 3.10 or later is needed; this is `$(PYTHON) --version`. Choose one: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "no virtual environment could be made: on Debian and Ubuntu, apt install python3-venv"; exit 1; }

$(VENV)/.installed: requirements.txt | $(PY)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/.installed-dev: requirements.txt requirements-dev.txt | $(PY)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV)
